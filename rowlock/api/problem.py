"""What is wrong with a manifest, and where: one line each, in the form editors and CI jump to."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Where a value stands: field names as the user writes them, and list indexes.
FieldPath = tuple[str | int, ...]


@dataclass(frozen=True, order=True)
class Position:
    """Line and column, both from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        source: the file as the user named it.
        position: where in the file; None when the file as a whole is meant.
        path: the field; empty when no field is meant.
        reason: what is wrong with it, in plain words.
    """

    source: str
    position: Position | None
    path: FieldPath
    reason: str

    def __str__(self) -> str:
        place = f"{self.source}:{self.position.line}:{self.position.column}" if self.position else self.source
        field = dotted(self.path)
        return f"{place}: {field}: {self.reason}" if field else f"{place}: {self.reason}"


class ManifestError(ValueError):
    """A manifest that cannot be used, with every problem found in it, in the order of its lines."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.position or Position(0, 0)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def dotted(path: FieldPath) -> str:
    """`spec.containers[0].name`; map keys that are no plain word stand in brackets.

    >>> dotted(("spec", "nodeSelector", "kubernetes.io/arch"))
    'spec.nodeSelector[kubernetes.io/arch]'
    """
    text = ""
    for part in path:
        if isinstance(part, str) and re.fullmatch(r"\w+", part):
            text += f".{part}" if text else part
        else:
            text += f"[{part}]"
    return text
