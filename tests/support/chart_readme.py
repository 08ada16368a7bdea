"""The table of values in the chart's README, made from the comments in values.yaml.

The comments are in the style of helm-docs: `# -- ` begins what is said of the value below it, and further comment
lines go on. What is said of a map is said of all of it.

`python -m tests.support.chart_readme` writes the table into the README.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import yaml

from tests.support.charts import CHART

README = CHART / "README.md"
BEGIN, END = "<!-- values: made by `make chart` -->\n", "<!-- end of values -->\n"


@dataclass(frozen=True)
class Value:
    """A value of the chart, as values.yaml has it."""

    path: tuple[str, ...]
    said: str
    default: Any


def described_values(text: str) -> list[Value]:
    """Return every value of values.yaml that something is said of."""
    defaults = yaml.safe_load(text)
    found: list[Value] = []
    path: list[str] = []
    said: list[str] = []
    for line in text.splitlines():
        comment = re.match(r"\s*# (--)? ?(.*)", line)
        key = re.match(r"( *)([A-Za-z]+):", line)
        if comment and (comment[1] or said):
            said.append(comment[2])
        elif key:
            path = [*path[: len(key[1]) // 2], key[2]]
            if said:
                found.append(Value(tuple(path), " ".join(said), _at(defaults, path)))
            said = []
    return found


def undescribed_values(text: str) -> list[str]:
    """Return the paths of values that nothing is said of, neither of them nor of what they are in."""
    described = {value.path for value in described_values(text)}
    return [
        ".".join(path)
        for path in _leaves(yaml.safe_load(text), ())
        if not any(path[:length] in described for length in range(1, len(path) + 1))
    ]


def table(text: str) -> str:
    """Return the table as Markdown."""
    rows = ["| Value | Default | |", "|---|---|---|"]
    for value in described_values(text):
        default = json.dumps(value.default).replace("|", "\\|")
        rows.append(f"| `{'.'.join(value.path)}` | `{default}` | {value.said.replace('|', chr(92) + '|')} |")
    return "\n".join(rows) + "\n"


def readme() -> str:
    """Return the README as it should be."""
    before, _, rest = README.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    return before + BEGIN + table((CHART / "values.yaml").read_text()) + END + after


def _at(value: Any, path: list[str]) -> Any:
    for key in path:
        value = value[key]
    return value


def _leaves(value: Any, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    if not isinstance(value, dict) or not value:
        return [path]
    return [leaf for key, part in value.items() for leaf in _leaves(part, (*path, key))]


if __name__ == "__main__":
    README.write_text(readme())
