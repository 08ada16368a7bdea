"""The manifest: the last file of a checkpoint, and what makes it one.

It names every file with its length and checksum, and carries a checksum of itself. It is written in one
canonical spelling (sorted keys, fixed indent), and reading demands that very spelling back, so that no
changed byte goes unnoticed, not even a blank. A NaN in `extra` or `values` is written the way Python
spells it: losing a checkpoint over a loss that is not a number would be worse than a manifest that
stricter JSON readers refuse.

A manifest of another version whose own checksum is right is not damaged: a newer or older program wrote it
so. It is refused in words and nothing is done to it. Fields may be added within a version; a field that is
not known is ignored, and the checksum covers it all the same.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from rowlock.protocol import CheckpointNote
from rowlock_trainer.checkpoint.errors import BadCheckpointError, CheckpointError
from rowlock_trainer.checkpoint.layout import FILE_NAME, MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = "rowlock-checkpoint"
VERSION = 1

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]


@dataclass(frozen=True)
class FileRecord:
    """One file of a checkpoint."""

    name: str
    bytes: int
    #: Hexadecimal.
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint consists of."""

    step: int
    generation: int
    #: Unix time, in seconds.
    time: float
    #: Ranks that wrote it.
    world_size: int
    #: Of all files but the manifest.
    bytes: int
    files: tuple[FileRecord, ...]
    #: State that is no tensor, by its dotted key.
    values: dict[str, JSON]
    #: What the caller wanted kept beside the state.
    extra: dict[str, JSON]
    #: UID of the job that wrote it: generations are counted within one job. Empty when it was not told.
    job_uid: str = ""
    format: str = FORMAT
    version: int = VERSION
    #: Of the manifest's own text with this field empty.
    sha256: str = ""

    def note(self, name: str) -> CheckpointNote:
        """Return what the crew is told of this checkpoint, which lies in directory `name`."""
        return CheckpointNote(self.step, self.generation, self.bytes, self.time, name)

    def file(self, name: str) -> FileRecord:
        """Return the record of file `name`. Raises BadCheckpointError when the manifest has none."""
        for record in self.files:
            if record.name == name:
                return record
        raise BadCheckpointError(MANIFEST, f"does not name {name}")


def render(manifest: Manifest) -> bytes:
    """Return the text of `manifest`, its checksum filled in."""
    return _sign(asdict(manifest))


def parse(text: bytes) -> Manifest:
    """Return the manifest that `text` holds.

    Raises:
        BadCheckpointError: a byte is not as it was written.
        CheckpointError: every byte is, but this program does not read that format or version; its
            `configuration` is set.
    """
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadCheckpointError(MANIFEST, f"is not readable as JSON: {error}") from None
    if not isinstance(told, dict):
        raise BadCheckpointError(MANIFEST, "holds no JSON object")
    if _sign(told) != text:
        raise BadCheckpointError(MANIFEST, "does not match its own checksum")
    if (told.get("format"), told.get("version")) != (FORMAT, VERSION):
        raise CheckpointError(
            f"{MANIFEST} is whole, but of {told.get('format')!r} version {told.get('version')!r}, and this program "
            f"reads {FORMAT!r} version {VERSION}. Use the release that wrote it, or another checkpoint directory",
            configuration=True,
        )
    return _structure(told)


def read(directory: Path) -> Manifest:
    """Return the manifest in `directory`. Raises as `parse` does, and OSError when it cannot be read."""
    return parse((directory / MANIFEST).read_bytes())


def _sign(told: dict[str, Any]) -> bytes:
    """Return the one spelling of these fields, with the checksum that is right for them."""
    digest = hashlib.sha256(_spell({**told, "sha256": ""})).hexdigest()
    return _spell({**told, "sha256": digest})


def _spell(told: dict[str, Any]) -> bytes:
    return (json.dumps(told, sort_keys=True, indent=1) + "\n").encode()


def _structure(told: dict[str, Any]) -> Manifest:
    known = {field.name for field in fields(Manifest)}
    try:
        files = tuple(FileRecord(**record) for record in told.pop("files"))
        manifest = Manifest(files=files, **{name: value for name, value in told.items() if name in known})
        strange = [record.name for record in files if not FILE_NAME.fullmatch(record.name)]
        manifest.note("")  # refuses numbers that nobody could be told of
    except (TypeError, KeyError, ValueError) as error:
        raise BadCheckpointError(MANIFEST, f"has not the fields of its version: {error}") from None
    if strange:
        raise BadCheckpointError(MANIFEST, f"names a file that no checkpoint has: {strange[0]!r}")
    return manifest
