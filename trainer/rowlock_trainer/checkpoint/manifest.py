"""The manifest: the last file of a checkpoint, and what makes it one.

It names every file with its length and checksum, and carries a checksum of itself. It is written in one
canonical spelling (sorted keys, fixed indent), and reading demands that very spelling back, so that no
changed byte goes unnoticed, not even a blank. A NaN in `extra` or `values` is written the way Python
spells it: losing a checkpoint over a loss that is not a number would be worse than a manifest that
stricter JSON readers refuse.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from rowlock.protocol import CheckpointNote
from rowlock_trainer.checkpoint.errors import BadCheckpointError
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
    unsigned = replace(manifest, sha256="")
    return _spell(replace(unsigned, sha256=hashlib.sha256(_spell(unsigned)).hexdigest()))


def parse(text: bytes) -> Manifest:
    """Return the manifest that `text` holds. Raises BadCheckpointError unless every byte is as written."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadCheckpointError(MANIFEST, f"is not readable as JSON: {error}") from None
    if not isinstance(fields, dict):
        raise BadCheckpointError(MANIFEST, "holds no JSON object")
    if fields.get("format") != FORMAT or fields.get("version") != VERSION:
        found = f"{fields.get('format')!r} version {fields.get('version')!r}"
        raise BadCheckpointError(MANIFEST, f"is {found}; this program reads {FORMAT!r} version {VERSION}")
    manifest = _structure(fields)
    if render(manifest) != text:
        raise BadCheckpointError(MANIFEST, "does not match its own checksum")
    return manifest


def read(directory: Path) -> Manifest:
    """Return the manifest in `directory`. Raises BadCheckpointError, and OSError when it cannot be read."""
    return parse((directory / MANIFEST).read_bytes())


def _spell(manifest: Manifest) -> bytes:
    return (json.dumps(asdict(manifest), sort_keys=True, indent=1) + "\n").encode()


def _structure(fields: dict[str, Any]) -> Manifest:
    try:
        files = tuple(FileRecord(**record) for record in fields.pop("files"))
        manifest = Manifest(files=files, **fields)
        strange = [record.name for record in files if not FILE_NAME.fullmatch(record.name)]
    except (TypeError, KeyError) as error:
        raise BadCheckpointError(MANIFEST, f"has not the fields of its version: {error}") from None
    if strange:
        raise BadCheckpointError(MANIFEST, f"names a file that no checkpoint has: {strange[0]!r}")
    return manifest
