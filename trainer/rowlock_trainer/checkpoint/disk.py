"""The only place that changes the volume: create, make durable, commit, remove.

A write counts when it survives a power cut: the file is fsynced, then the directory that names it. The
operations stand in one class so that a program that must see a save stop between two of them (a fault
drill, a test) can do so on the real file system.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from rowlock_trainer.checkpoint.layout import MANIFEST

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path


class Disk:
    """Durable file operations. Each raises OSError that names the path."""

    def make_directory(self, path: Path, mark: str) -> None:
        """Create `path`, which must not exist, with an empty file `mark` in it, and its parents; make all durable."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir()
        (path / mark).touch(exist_ok=False)
        self.sync_directory(path)
        self.sync_directory(path.parent)
        self.sync_directory(path.parent.parent)

    def create(self, path: Path) -> FileIO:
        """Open a new file for unbuffered writing. A file that is there already is an error."""
        return path.open("xb", buffering=0)

    def write(self, file: FileIO, data: memoryview) -> None:
        """Write all of `data` (bytes, one-dimensional)."""
        try:
            while data:
                data = data[file.write(data) :]
        except OSError as error:
            error.filename = str(file.name)
            raise

    def sync(self, file: FileIO) -> None:
        """Make what was written to `file` durable."""
        try:
            os.fsync(file.fileno())
        except OSError as error:
            error.filename = str(file.name)
            raise

    def sync_directory(self, path: Path) -> None:
        """Make the entries of directory `path` durable."""
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def commit(self, path: Path, content: bytes) -> None:
        """Let `path` appear with `content` all at once and for good."""
        temporary = path.with_name(path.name + ".part")
        with self.create(temporary) as file:
            self.write(file, memoryview(content))
            self.sync(file)
        self.rename(temporary, path)
        self.sync_directory(path.parent)
        self.sync_directory(path.parent.parent)

    def rename(self, old: Path, new: Path) -> None:
        """Rename within one volume."""
        old.rename(new)

    def remove(self, directory: Path) -> None:
        """Remove a checkpoint directory, its manifest first: half removed, it is no checkpoint any more."""
        (directory / MANIFEST).unlink(missing_ok=True)
        self.sync_directory(directory)
        shutil.rmtree(directory)
        self.sync_directory(directory.parent)
