"""Files that are there whole or not at all, whenever the power fails or the disk fills up."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file that only its owner can read; a crash leaves the old one or the new, never half of one.

    Raises:
        OSError: It cannot be written. What was there before is untouched, and nothing is left beside it.
    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        _sync_directory(path.parent)
    except OSError:
        with contextlib.suppress(OSError):  # the failure itself is what the caller must hear of
            fresh.unlink(missing_ok=True)
        raise


def _sync_directory(directory: Path) -> None:
    """Make the new name itself outlast a power failure."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
