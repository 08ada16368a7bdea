"""What each set of values comes to, written out, so that a change to the chart shows what it changes in a cluster.

`make chart` writes it anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support.charts import CHART, VALUES, helm, render

GOLDEN = Path(__file__).parent / "golden"
#: Set by `make chart`.
UPDATE = "ROWLOCK_UPDATE_GOLDEN"
DEFINITION = re.compile(r"^---\n# Source: rowlock/templates/crd\.yaml\n.*?(?=^---$)", re.MULTILINE | re.DOTALL)


def without_definition(rendered: str) -> str:
    """test_definition.py sees to its thousands of lines. Helm 4 writes empty lines that 3 does not."""
    return re.sub(r"\n+^---$", "\n---", DEFINITION.sub("", rendered), flags=re.MULTILINE).rstrip() + "\n"


@pytest.mark.parametrize("values", VALUES)
def test_values_come_to_what_is_written_down(values: str) -> None:
    path = GOLDEN / f"{values}.yaml"
    rendered = without_definition(render(values=VALUES[values]))
    if os.environ.get(UPDATE):
        path.write_text(rendered)
    assert rendered == path.read_text(), f"if that is meant: make chart, and look at the difference of {path.name}"


def test_nothing_is_written_down_that_no_values_come_to() -> None:
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == set(VALUES)


@pytest.mark.parametrize("values", VALUES)
def test_the_linter_finds_nothing(values: str) -> None:
    helm("lint", "--strict", "--values", VALUES[values], CHART)
