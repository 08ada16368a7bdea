"""What is deleted, and when: only after something newer is complete, and never what another crew may own.

Called by the coordinator alone. What cannot be removed is told in words and left; a full or read-only
corner of the volume must not cost the checkpoint that was just written.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from rowlock_trainer.checkpoint import layout
from rowlock_trainer.checkpoint.errors import in_words

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rowlock_trainer.checkpoint.disk import Disk

#: Set-aside checkpoints that stay for a person to look at. More would fill the volume in silence.
REJECTED_KEPT = 2


def retain(disk: Disk, root: Path, keep: int, generation: int, unusable: set[str]) -> list[str]:
    """Keep the newest `keep` checkpoints and the newest rejected ones, remove the rest.

    With `keep` of at least 2, the checkpoint that a run was resumed from stays until two newer ones are
    complete. `unusable` ones (rejected, but impossible to set aside) are neither counted nor removed. When
    a generation later than `generation` has written here, this crew has been replaced and removes nothing.

    Returns:
        What could not be removed and why, a line each. Raises OSError when `root` cannot be listed.
    """
    names = [name for name in layout.complete(root) if str(name) not in unusable]
    if any(name.generation > generation for name in layout.directories(root)):
        return []
    trouble = [_try(disk.remove, root / str(name)) for name in names[keep:]]
    trouble += [_try(shutil.rmtree, root / name) for name in layout.rejected(root)[:-REJECTED_KEPT]]
    return [line for line in trouble if line]


def clear_leftovers(disk: Disk, root: Path, generation: int) -> list[str]:
    """Remove what writers of generations before `generation` left unfinished.

    Returns:
        What could not be removed and why, a line each. Raises OSError when `root` cannot be listed.
    """
    trouble = [_try(disk.remove, root / str(name)) for name in layout.leftovers(root, generation)]
    return [line for line in trouble if line]


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
