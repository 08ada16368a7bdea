"""The lock files of single layers say what the whole ones say."""

from __future__ import annotations

from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[3] / "requirements"


def entries(name: str) -> set[tuple[str, ...]]:
    """Each requirement of a lock file with its version, marker and hashes."""
    text = (REQUIREMENTS / name).read_text().replace(" \\\n", "\n")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    found: list[list[str]] = []
    for line in lines:
        if line.startswith("--hash="):
            found[-1].append(line)
        else:
            found.append([line])
    return {tuple(entry) for entry in found}


@pytest.mark.parametrize(("part", "whole"), [("torch", "trainer"), ("launcher", "trainer"), ("launcher", "operator")])
def test_a_layers_lock_file_is_a_part_of_the_images(part, whole):
    assert entries(f"{part}.txt") <= entries(f"{whole}.txt")


@pytest.mark.parametrize("name", [path.name for path in REQUIREMENTS.glob("*.txt") if path.name != "constraints.txt"])
def test_every_locked_package_has_hashes_and_none_names_an_index(name):
    assert all(len(entry) > 1 for entry in entries(name))
    assert "://" not in (REQUIREMENTS / name).read_text()
