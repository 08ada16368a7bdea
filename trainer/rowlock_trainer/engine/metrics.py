"""metrics.jsonl: the run's history beside its checkpoints, one JSON object a line.

Lines are only ever added. Steps taken after a checkpoint that a later generation went back to appear twice,
each with its generation; for a step, the last line is the one that counts. (Generations cannot say: a new job
on a kept volume counts them from 1 again.)
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

FILE_NAME = "metrics.jsonl"


class MetricsLog:
    """Appends to the run's history; one rank of the crew does.

    A history that cannot be written must not end the training it tells of: the first failure is told,
    and nothing more is written.

    Args:
        directory: Where the checkpoints are.
        generation: Number of the generation, added to every line.
        on_failure: Told once, in words.
    """

    def __init__(self, directory: Path, generation: int, on_failure: Callable[[str], None]) -> None:
        self._path = directory / FILE_NAME
        self._generation = generation
        self._on_failure = on_failure
        self._file: BinaryIO | None = None
        self._failed = False

    def write(self, **values: float | str | None) -> None:
        """Append one line; numbers that JSON has no word for (infinities, not a number) become null."""
        if self._failed:
            return
        line = {name: _finite(value) for name, value in values.items()}
        try:
            self._file = self._file or self._open()
            text = json.dumps({**line, "time": time.time(), "generation": self._generation})
            self._file.write(text.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            self._failed = True
            self._on_failure(
                f"{self._path} cannot be written ({error.strerror}): training goes on without its history; "
                "make room on the volume"
            )

    def _open(self) -> BinaryIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+b")
        # A writer that was killed may have left half a line: end it, so that the next one stands alone.
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        return file


def _finite(value: float | str | None) -> float | str | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value
