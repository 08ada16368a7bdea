"""The storage writer: one file a rank, hashed as it is written, and the manifest at the very end.

torch.distributed.checkpoint calls `prepare_global_plan` and `finish` on the coordinator only; between the
two every rank writes its share. The coordinator picks and creates the directory while the plans are with
it, and the plans carry its name back, so nobody writes before it exists. `finish` looks at every file
through the coordinator's own mount before it signs the manifest: a volume that is not shared shows here,
not at the first load.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, TensorStorageMetadata
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from rowlock_trainer.checkpoint import index, layout, manifest
from rowlock_trainer.checkpoint.errors import CheckpointError
from rowlock_trainer.checkpoint.index import ChunkRecord, Index, TensorRecord
from rowlock_trainer.checkpoint.manifest import FileRecord, Manifest
from rowlock_trainer.checkpoint.raw import as_bytes
from rowlock_trainer.checkpoint.verify import BLOCK, wrong_lengths

if TYPE_CHECKING:
    import os

    from torch.distributed.checkpoint.metadata import ChunkStorageMetadata
    from torch.distributed.checkpoint.planner import SavePlan

    from rowlock_trainer.checkpoint.disk import Disk
    from rowlock_trainer.checkpoint.manifest import JSON
    from rowlock_trainer.checkpoint.retention import Owner
    from rowlock_trainer.checkpoint.staging import StagedPlanner


@dataclasses.dataclass(frozen=True)
class _Target:
    """Where one rank writes; travels in its plan."""

    directory: str
    file: str


@dataclasses.dataclass(frozen=True)
class _Placed:
    """Where one item went; travels back to the coordinator."""

    file: FileRecord
    at: int


class CheckpointWriter(StorageWriter):
    """Writes one checkpoint of one crew; used once."""

    def __init__(
        self,
        disk: Disk,
        root: Path,
        step: int,
        owner: Owner,
        planner: StagedPlanner,
        extra: dict[str, JSON],
    ) -> None:
        self._disk = disk
        self._root = root
        self._step = step
        self._owner = owner
        self._planner = planner
        self._extra = extra
        self._world_size = 1
        #: Coordinator only: the directory this save has created, None before.
        self.directory: Path | None = None

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Never chosen by the looks of a path."""
        return False

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Nothing to reset: a writer is used once."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing to set up before the plans are known."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Return `plan`: storage adds nothing to it on the way to the coordinator."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Create the directory and tell every rank its file. Raises OSError."""
        self._world_size = len(plans)
        self._root.mkdir(parents=True, exist_ok=True)
        name = str(layout.free_name(self._root, self._step, self._owner.generation))
        self.directory = self._root / name
        self._disk.make_directory(self.directory, layout.owner_mark(self._owner.job_uid))
        targets = (_Target(name, layout.rank_file(rank)) for rank in range(len(plans)))
        return [dataclasses.replace(p, storage_data=t) for p, t in zip(plans, targets, strict=True)]

    def write_data(self, plan: SavePlan, planner: Any) -> Future[list[WriteResult]]:
        """Write this rank's items one after the other into its file. Raises OSError."""
        done: Future[list[WriteResult]] = Future()
        done.set_result(self._write(plan, planner) if plan.items else [])
        return done

    def _write(self, plan: SavePlan, planner: StagedPlanner) -> list[WriteResult]:
        target: _Target = plan.storage_data
        digest = hashlib.sha256()
        written: list[tuple[MetadataIndex, int, int]] = []
        at = 0
        with self._disk.create(self._root / target.directory / target.file) as file:
            for item in plan.items:
                data = as_bytes(planner.resolve_data(item))
                for start in range(0, len(data), BLOCK):
                    block = data[start : start + BLOCK]
                    digest.update(block)
                    self._disk.write(file, block)
                written.append((item.index, at, len(data)))
                at += len(data)
            self._disk.sync(file)
        record = FileRecord(target.file, at, digest.hexdigest())
        return [WriteResult(index, size, _Placed(record, begin)) for index, begin, size in written]

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Write the index, look at what is there, and sign it: the checkpoint exists when this returns.

        Leaves the checkpoint's note in ``metadata.storage_data``, and nothing else in `metadata`: it
        travels to every rank next.

        Raises:
            OSError: a file could not be written or made durable.
            CheckpointError: a rank's file is not on the volume as the coordinator sees it.
        """
        if self.directory is None:
            raise RuntimeError("finish() on a rank that is not the coordinator")
        files = {r.storage_data.file.name: r.storage_data.file for rank in results for r in rank}
        files[layout.METADATA] = self._write_index(self.directory, _index(metadata, results))
        self._disk.sync_directory(self.directory)
        signed = Manifest(
            step=self._step,
            generation=self._owner.generation,
            time=time.time(),
            world_size=self._world_size,
            bytes=sum(record.bytes for record in files.values()),
            files=tuple(files[name] for name in sorted(files)),
            values=self._planner.values,
            extra=self._extra,
            job_uid=self._owner.job_uid,
        )
        if problems := wrong_lengths(self.directory, signed):
            raise CheckpointError(
                f"{self.directory / problems[0].file} is not what its rank wrote, as rank 0 sees it "
                f"({problems[0].reason}): every worker must mount the same volume (ReadWriteMany)"
            )
        self._disk.commit(self.directory / layout.MANIFEST, manifest.render(signed))
        metadata.state_dict_metadata = {}
        metadata.storage_data = signed.note(self.directory.name)

    def _write_index(self, directory: Path, content: Index) -> FileRecord:
        text = index.render(content)
        with self._disk.create(directory / layout.METADATA) as file:
            self._disk.write(file, memoryview(text))
            self._disk.sync(file)
        return FileRecord(layout.METADATA, len(text), hashlib.sha256(text).hexdigest())


def _index(metadata: Metadata, results: list[list[WriteResult]]) -> Index:
    """Return where everything lies, from what was planned and what the ranks say they wrote."""
    placed = {result.index: result for rank in results for result in rank}
    return {
        key: TensorRecord(
            dtype=str(tensor.properties.dtype).removeprefix("torch."),
            size=tuple(tensor.size),
            chunks=tuple(_chunk(placed, key, chunk) for chunk in tensor.chunks),
        )
        for key, tensor in metadata.state_dict_metadata.items()
        if isinstance(tensor, TensorStorageMetadata)
    }


def _chunk(placed: dict[MetadataIndex, WriteResult], key: str, chunk: ChunkStorageMetadata) -> ChunkRecord:
    result = placed[MetadataIndex(key, chunk.offsets)]
    where: _Placed = result.storage_data
    return ChunkRecord(
        offsets=tuple(chunk.offsets),
        sizes=tuple(chunk.sizes),
        file=where.file.name,
        at=where.at,
        bytes=result.size_in_bytes,
    )
