"""What ranks wrote down on the job's volume, read from the machine that has the volume."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Records:
    """Lines of JSON in files that grow; every line is read once.

    Args:
        directory: Where the files are; it may not exist yet.
        pattern: Which files.
    """

    def __init__(self, directory: Path, pattern: str) -> None:
        self._directory = directory
        self._pattern = pattern
        self._offsets: dict[Path, int] = defaultdict(int)
        self._lines: dict[str, list[Record]] = defaultdict(list)

    def read(self) -> dict[str, list[Record]]:
        """Return all complete lines so far, by the file's name without its ending."""
        for path in sorted(self._directory.glob(self._pattern)):
            with path.open("rb") as file:
                file.seek(self._offsets[path])
                complete, newline, _ = file.read().rpartition(b"\n")
            self._offsets[path] += len(complete) + len(newline)
            self._lines[path.stem] += [json.loads(line) for line in complete.splitlines() if line.strip()]
        return self._lines


def first_lives(lines: dict[str, list[Record]], born_after: float) -> dict[int, Record]:
    """Return each rank's first line from a process that was started after a moment.

    Args:
        lines: Lines of `rank-N` files.
        born_after: Unix time, in seconds.
    """
    found = {}
    for name, records in lines.items():
        line = next((record for record in records if record["process"] > born_after), None)
        if line is not None:
            found[int(name.removeprefix("rank-"))] = line
    return found


def steps_since(lines: list[Record], moment: float) -> int:
    """Return how many steps were finished after a moment, in Unix time."""
    return sum(1 for line in lines if "step" in line and "event" not in line and line["time"] > moment)
