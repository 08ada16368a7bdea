"""Where things lie under a checkpoint root, told from the names alone.

::

    root/step-00000040-gen-0003/job-5d41402abc4b2a76 rank-00000.bin ... metadata.json manifest.json
    root/rejected-step-00000020-gen-0002/

A directory without a manifest is no checkpoint: it is being written, or its writer died. A directory is
never written twice; when a name is taken (a second run on the same volume) the next one gets a counter,
so that nothing complete is touched before something newer is.

The newest checkpoint is the one of the highest step. That is what a run goes on from, whoever wrote it: a
bad one ahead of it has been renamed by then, and one of another model or seed is refused, so every good one
is of this run, and the furthest loses least. A generation's number says nothing across jobs, because a new
job on a kept volume counts from 1 again. It only breaks a tie between two of the same step, which hold the
same state.

Whose a directory is tells the owner's mark, an empty file named after the job's UID and made together with
the directory; where a copy has lost it, the manifest does.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "manifest.json"
METADATA = "metadata.json"
REJECTED = "rejected-"
_OWNER = "job-"
#: File names a manifest may hold: nothing that leads out of its directory.
FILE_NAME = re.compile(r"rank-\d{5,}\.bin|metadata\.json")
_NAME = re.compile(r"step-(\d{8,})-gen-(\d{4,})(?:-(\d+))?")


@dataclass(frozen=True, order=True)
class Name:
    """Name of a checkpoint directory. A greater one is newer: further first, then the later generation."""

    step: int
    generation: int
    #: 1 for the first directory of this step and generation.
    attempt: int = 1

    def __str__(self) -> str:
        counter = f"-{self.attempt}" if self.attempt > 1 else ""
        return f"step-{self.step:08d}-gen-{self.generation:04d}{counter}"

    @classmethod
    def parse(cls, text: str) -> Name | None:
        """Return the name that `text` spells, None when it is no checkpoint's."""
        match = _NAME.fullmatch(text)
        if match is None:
            return None
        name = cls(int(match[1]), int(match[2]), int(match[3] or 1))
        return name if str(name) == text else None


def rank_file(rank: int) -> str:
    """Return the name of the file that `rank` writes."""
    return f"rank-{rank:05d}.bin"


def directories(root: Path) -> list[Name]:
    """Return every checkpoint directory under `root`, complete or not, newest first. Raises OSError."""
    if not root.exists():
        return []
    names = (Name.parse(entry.name) for entry in root.iterdir() if entry.is_dir())
    return sorted((name for name in names if name is not None), reverse=True)


def complete(root: Path) -> list[Name]:
    """Return the directories that hold a manifest, newest first. Raises OSError."""
    return [name for name in directories(root) if (root / str(name) / MANIFEST).exists()]


def unfinished(root: Path) -> list[Name]:
    """Return the directories that hold no manifest, newest first. Raises OSError."""
    finished = set(complete(root))
    return [name for name in directories(root) if name not in finished]


def owner_mark(job_uid: str) -> str:
    """Return the name of the file that marks a directory as written by this job."""
    return _OWNER + hashlib.sha256(job_uid.encode()).hexdigest()[:16]


def rejected(root: Path) -> list[str]:
    """Return the names of the checkpoints that were set aside, oldest first. Raises OSError."""
    if not root.exists():
        return []
    return sorted(entry.name for entry in root.iterdir() if entry.name.startswith(REJECTED))


def free_name(root: Path, step: int, generation: int) -> Name:
    """Return a name for this step and generation that no directory has. Raises OSError."""
    taken = [n.attempt for n in directories(root) if (n.step, n.generation) == (step, generation)]
    return Name(step, generation, max(taken, default=0) + 1)
