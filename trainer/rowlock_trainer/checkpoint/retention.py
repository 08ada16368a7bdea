"""What is deleted, and when: only after something newer is complete, and never what another crew may own.

Called by the coordinator alone. What cannot be removed is told in words and left; a full or read-only
corner of the volume must not cost the checkpoint that was just written.

Two kinds of others may have written here. A later generation *of the same job* means that this crew has been
replaced: it removes nothing any more. *Another job*, whose generations count for themselves, has usually
ended: what lay here when this crew began is inherited, to be removed like its own. What another job writes
after that (its last pods are still saving, or it is the one that follows) is not this crew's to remove.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rowlock_trainer.checkpoint import layout
from rowlock_trainer.checkpoint.errors import BadCheckpointError, CheckpointError, in_words
from rowlock_trainer.checkpoint.verify import checked_manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from rowlock_trainer.checkpoint.disk import Disk
    from rowlock_trainer.checkpoint.layout import Name

#: Set-aside checkpoints that stay for a person to look at. More would fill the volume in silence.
REJECTED_KEPT = 2


@dataclass(frozen=True)
class Owner:
    """A crew as a writer of checkpoints."""

    generation: int
    #: UID of its job, which tells jobs of one name apart.
    job_uid: str = ""

    def wrote(self, root: Path, name: Name) -> bool:
        """Whether a crew of this job wrote `name`. One of an unreadable origin is nobody's. Raises OSError."""
        if (root / str(name) / layout.owner_mark(self.job_uid)).exists():
            return True  # spares reading the manifest, which names every rank's file
        try:
            return checked_manifest(root, str(name)).job_uid == self.job_uid
        except (BadCheckpointError, CheckpointError, FileNotFoundError):
            return False


def retain(
    disk: Disk, root: Path, keep: int, owner: Owner, *, unusable: AbstractSet[str], inherited: AbstractSet[str]
) -> list[str]:
    """Keep the newest `keep` checkpoints and the newest rejected ones, remove the rest.

    With `keep` of at least 2, the checkpoint that a run was resumed from stays until two newer ones are
    complete. The newest `keep` of the owner's own stay, too, should another job write ahead of it.

    Args:
        disk: What removes.
        root: Where the checkpoints are.
        keep: How many to keep.
        owner: The crew that asks.
        unusable: Those that were rejected, but impossible to set aside; neither counted nor removed.
        inherited: Directories that were here when the crew began.

    Returns:
        What could not be removed and why, a line each. Raises OSError when `root` cannot be listed.
    """
    present = layout.directories(root)
    own = [name for name in present if owner.wrote(root, name)]
    if any(name.generation > owner.generation for name in own):
        return []
    names = [name for name in layout.complete(root) if str(name) not in unusable]
    kept = {*names[:keep], *[name for name in names if name in own][:keep]}
    superfluous = [name for name in names if name not in kept and (name in own or str(name) in inherited)]
    trouble = [_try(disk.remove, root / str(name)) for name in superfluous]
    trouble += [_try(shutil.rmtree, root / name) for name in layout.rejected(root)[:-REJECTED_KEPT]]
    return [line for line in trouble if line]


def clear_leftovers(disk: Disk, root: Path, owner: Owner, *, inherited: AbstractSet[str]) -> list[str]:
    """Remove what writers that are gone left unfinished.

    Those are earlier generations of the owner's job, and another job before this crew began. A directory of
    the owner's own generation may still be written, one of a later generation belongs to a crew that has
    taken over.

    Args:
        disk: What removes.
        root: Where the checkpoints are.
        owner: The crew that asks.
        inherited: Directories that were here when the crew began.

    Returns:
        What could not be removed and why, a line each. Raises OSError when `root` cannot be listed.
    """
    dead = [
        name
        for name in layout.unfinished(root)
        if (name.generation < owner.generation if owner.wrote(root, name) else str(name) in inherited)
    ]
    return [line for line in (_try(disk.remove, root / str(name)) for name in dead) if line]


def set_aside(disk: Disk, root: Path, name: str) -> str:
    """Rename a bad checkpoint so that it is not tried again. Return the new name. Raises OSError."""
    taken = set(layout.rejected(root))
    new = f"{layout.REJECTED}{name}"
    attempt = 1
    while new in taken:
        attempt += 1
        new = f"{layout.REJECTED}{name}-{attempt}"
    disk.rename(root / name, root / new)
    disk.sync_directory(root)
    return new


def _try(remove: Callable[[Path], object], path: Path) -> str:
    try:
        remove(path)
    except OSError as error:
        return f"{path} could not be removed: {in_words(error)}; remove it by hand"
    return ""
