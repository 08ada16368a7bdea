"""Is a checkpoint, byte for byte, what was written? Answered without torch and without a crew.

torch's own checkpoint format does not notice a changed byte; this does. The checks go from cheap to dear:
the manifest, then the lengths, then the checksums, so that a crew can leave the first two to one rank and
share the third.
"""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from rowlock_trainer.checkpoint import layout, manifest
from rowlock_trainer.checkpoint.errors import BadCheckpointError, CheckpointError

if TYPE_CHECKING:
    from rowlock.protocol import CheckpointNote
    from rowlock_trainer.checkpoint.manifest import FileRecord, Manifest

#: Bytes hashed or written at a time: long enough that hashlib and the kernel work without the interpreter
#: lock nearly all the time, short enough to stay in a core's second-level cache.
BLOCK = 1 << 20


def list_checkpoints(root: Path) -> list[CheckpointNote]:
    """Return the checkpoints under `root` whose manifest is good, newest first; files are not read.

    Raises OSError when `root` cannot be listed.
    """
    notes = []
    for name in layout.complete(Path(root)):
        try:
            notes.append(checked_manifest(Path(root), str(name)).note(str(name)))
        except (BadCheckpointError, CheckpointError):
            continue  # `verify` says what is wrong with it; here it just is no checkpoint to go on from
    return notes


def verify(root: Path, name: str) -> list[str]:
    """Return all that is wrong with checkpoint `name` under `root`, one line a file; empty when it is good.

    Every byte of every file is read. Raises OSError when reading is refused for reasons that are not the
    checkpoint's, such as a missing permission.
    """
    directory = Path(root) / name
    if not (directory / layout.MANIFEST).exists():
        return [f"{layout.MANIFEST}: missing: {name} was never finished, or is no checkpoint"]
    try:
        found = checked_manifest(Path(root), name)
    except (BadCheckpointError, CheckpointError) as problem:
        return [str(problem)]
    wrong = {problem.file: problem for problem in wrong_lengths(directory, found)}
    for record in found.files:
        if record.name not in wrong and (difference := wrong_checksum(directory, record)):
            wrong[record.name] = difference
    return [str(problem) for problem in wrong.values()]


def checked_manifest(root: Path, name: str) -> Manifest:
    """Return the manifest of `name`, which must speak of that very checkpoint.

    Raises:
        BadCheckpointError: it is damaged.
        CheckpointError: it is whole, but of another version; its `configuration` is set.
        OSError: reading is refused for reasons that are not the checkpoint's.
    """
    try:
        found = manifest.read(root / name)
    except OSError as error:
        if error.errno == errno.EIO:
            raise BadCheckpointError(layout.MANIFEST, "cannot be read: Input/output error (EIO)") from None
        raise
    spelled = layout.Name.parse(name)
    if spelled is not None and (spelled.step, spelled.generation) != (found.step, found.generation):
        told = f"step {found.step} of generation {found.generation}"
        raise BadCheckpointError(layout.MANIFEST, f"speaks of {told}, not of {name}")
    return found


def wrong_lengths(directory: Path, found: Manifest) -> list[BadCheckpointError]:
    """Return what the directory's entries alone say is wrong: files missing, short or long. Raises OSError."""
    problems = []
    for record in found.files:
        try:
            length = (directory / record.name).stat().st_size
        except FileNotFoundError:
            problems.append(BadCheckpointError(record.name, "missing"))
            continue
        if length != record.bytes:
            problems.append(BadCheckpointError(record.name, f"has {length} bytes instead of {record.bytes}"))
    return problems


def wrong_checksum(directory: Path, record: FileRecord) -> BadCheckpointError | None:
    """Return what is wrong with one file's bytes, None when nothing is.

    Raises OSError when reading is refused for reasons that are not the checkpoint's (permission, a mount
    that is gone); an input/output error is the medium's, and so the checkpoint's.
    """
    try:
        found = checksum(directory / record.name)
    except OSError as error:
        if error.errno == errno.EIO:
            return BadCheckpointError(record.name, "cannot be read: Input/output error (EIO)")
        raise
    if found == record.sha256:
        return None
    return BadCheckpointError(record.name, f"has checksum {found[:12]}… instead of {record.sha256[:12]}…")


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    block = bytearray(BLOCK)
    view = memoryview(block)
    with path.open("rb", buffering=0) as file:
        while length := file.readinto(block):
            digest.update(view[:length])
    return digest.hexdigest()
