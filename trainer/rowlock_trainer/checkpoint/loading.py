"""Choose the newest checkpoint that is good on every byte, and load it; all ranks agree on which.

The coordinator lists, judges manifests and lengths, and sets bad checkpoints aside; the hashing, which is
the long part, is shared by all ranks in proportion to bytes. A verdict is the same on every rank before
the next step is taken.

A file that one rank cannot read for reasons that are not the checkpoint's (permission, a mount that is
gone, a volume that is not shared) is *not* a bad checkpoint: it would be wrong to set a good one aside for
it. Loading fails then, and another try may go well.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rowlock_trainer.checkpoint import dcp, fit, index, layout, retention
from rowlock_trainer.checkpoint.errors import BadCheckpointError, CheckpointError, in_words, some
from rowlock_trainer.checkpoint.reader import CheckpointReader
from rowlock_trainer.checkpoint.verify import checked_manifest, wrong_checksum, wrong_lengths

if TYPE_CHECKING:
    from collections.abc import Callable

    from rowlock.protocol import CheckpointNote
    from rowlock_trainer.checkpoint.crew import Crew
    from rowlock_trainer.checkpoint.disk import Disk
    from rowlock_trainer.checkpoint.index import Index
    from rowlock_trainer.checkpoint.manifest import JSON, FileRecord, Manifest
    from rowlock_trainer.checkpoint.state import FlatState


@dataclass(frozen=True)
class Loaded:
    """What was loaded."""

    step: int
    #: As it was given to save().
    extra: dict[str, JSON]
    note: CheckpointNote
    #: Per-rank entries of this rank's state that the checkpoint has not: they were left as they were.
    left_alone: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What the crew found out about one checkpoint: its manifest, or what is wrong with it."""

    manifest: Manifest | None
    problems: tuple[str, ...] = ()


class Loader:
    """Loads for one crew. Every rank calls the same methods at the same point."""

    def __init__(self, crew: Crew, disk: Disk, root: Path, on_rejected: Callable[[str, str], None]) -> None:
        """`on_rejected` is called on the coordinator with the name of a bad checkpoint and what came of it."""
        self._crew = crew
        self._disk = disk
        self._root = root
        self._on_rejected = on_rejected
        #: Rejected, but impossible to set aside.
        self.unusable: set[str] = set()

    def newest(self, state: FlatState) -> Loaded | None:
        """Load the newest good checkpoint into `state`; None when there is none at all.

        Raises:
            CheckpointError: there are checkpoints and none is good, the good one does not fit or is of
                another version, or the volume cannot be read.
            PeerLostError: another rank went away.
        """
        tried: list[str] = []
        for name in self._crew.tell(lambda: list(map(str, layout.complete(self._root)))):
            verdict = self._judge(name)
            if verdict.manifest is not None and not verdict.problems:
                return self._load(name, verdict.manifest, state)
            tried.append(f"{name} ({some(verdict.problems, 'files')})")
            self._crew.tell(lambda name=name, verdict=verdict: self._reject(name, verdict))  # type: ignore[misc]
        tried += self._crew.tell(lambda: [f"{n} (set aside earlier)" for n in self._rejected_before(tried)])
        if tried:
            raise CheckpointError(
                f"no checkpoint under {self._root} is good: {', '.join(tried)}. Restore one from a backup, or "
                f"remove the {layout.REJECTED}* directories to start from the beginning"
            )
        return None

    def _rejected_before(self, tried: list[str]) -> list[str]:
        """Without these a second try would find nothing and silently start from the beginning."""
        now = {layout.REJECTED + line.split(" ")[0] for line in tried}
        return [name for name in layout.rejected(self._root) if name not in now]

    def _judge(self, name: str) -> Verdict:
        verdict = self._crew.tell(lambda: self._look(name))
        if verdict.manifest is None or verdict.problems:
            return verdict
        own = share(verdict.manifest.files, self._crew.size)[self._crew.rank]
        problems = self._crew.collect(lambda: self._hash(name, own))
        return Verdict(verdict.manifest, tuple(line for rank in problems for line in rank))

    def _look(self, name: str) -> Verdict:
        try:
            manifest = checked_manifest(self._root, name)
        except BadCheckpointError as problem:
            return Verdict(None, (str(problem),))
        except CheckpointError as other:
            # Whole, but of another version: setting it aside, or passing it over, would lose its steps.
            raise CheckpointError(f"checkpoint {self._root / name}: {other}", configuration=True) from None
        return Verdict(manifest, tuple(map(str, wrong_lengths(self._root / name, manifest))))

    def _hash(self, name: str, records: list[FileRecord]) -> list[str]:
        directory = self._root / name
        try:
            problems = [wrong_checksum(directory, record) for record in records]
        except FileNotFoundError as error:
            raise CheckpointError(
                f"rank {self._crew.rank} does not see {error.filename}, which rank 0 sees: every worker must "
                f"mount the same volume (ReadWriteMany)"
            ) from None
        return [str(problem) for problem in problems if problem is not None]

    def _reject(self, name: str, verdict: Verdict) -> None:
        problems = some(verdict.problems, "files")
        try:
            fate = f"set aside as {retention.set_aside(self._disk, self._root, name)}"
        except OSError as error:
            self.unusable.add(name)
            fate = f"could not be set aside ({in_words(error)})"
        self._on_rejected(name, f"checkpoint {self._root / name} is bad: {problems}; {fate}, the one before is tried")

    def _load(self, name: str, manifest: Manifest, state: FlatState) -> Loaded:
        content = self._index(name)
        misfits = self._crew.collect(lambda: fit.compare(state, content, manifest.values))
        if words := fit.in_words(misfits, content, manifest.values):
            raise CheckpointError(
                f"checkpoint {self._root / name} is good but does not fit this job: {words}. Use the model and "
                f"optimizer it was written with, or another checkpoint directory",
                configuration=True,
            )
        tensors = {key: tensor for key, tensor in state.tensors.items() if key in content}
        self._read(name, content, dict(tensors))
        values = {key for key in state.values if key in manifest.values}
        for key in values:
            state.put(key, manifest.values[key])
        left_alone = tuple(sorted(state.keys() - tensors.keys() - values))
        return Loaded(manifest.step, manifest.extra, manifest.note(name), left_alone)

    def _index(self, name: str) -> Index:
        def read() -> Index:
            try:
                return index.parse((self._root / name / layout.METADATA).read_bytes())
            except BadCheckpointError as problem:
                # Its checksum was right: whoever wrote it wrote this. Setting it aside would hide a fault of ours.
                raise CheckpointError(f"checkpoint {self._root / name}: {problem}") from problem

        return self._crew.collect(read)[self._crew.rank]

    def _read(self, name: str, content: Index, tensors: dict[str, object]) -> None:
        try:
            dcp.load(self._crew, CheckpointReader(self._root / name, content), tensors)
        except (BadCheckpointError, CheckpointError) as error:
            raise CheckpointError(f"checkpoint {self._root / name}: {error}") from error


def share(files: tuple[FileRecord, ...], ranks: int) -> list[list[FileRecord]]:
    """Return the files each rank hashes: the largest first, each to the rank with the fewest bytes so far."""
    shares: list[list[FileRecord]] = [[] for _ in range(ranks)]
    load = [0] * ranks
    for record in sorted(files, key=lambda record: (-record.bytes, record.name)):
        rank = load.index(min(load))
        shares[rank].append(record)
        load[rank] += record.bytes
    return shares
