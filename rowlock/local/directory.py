"""Where a job lives on a laptop: one directory that stands for the API server, the claim and the logs.

``ROOT/NAMESPACE/NAME/`` holds ``job.json`` (identity, spec and status: what etcd holds in a cluster), ``token``
(the job's Secret, readable by its owner only), ``checkpoints/`` (the claim) and ``logs/``. Everything the next
run needs is in it, so deleting the directory deletes the job. Beside it stand what no job can be called, because
a job's name holds no dot: ``NAME.lock``, which outlives the directory so that it can be moved aside while held;
``NAME.1`` and so on, the runs that were moved aside; and ``.claims/CLAIM/NAME``, for claims that several jobs share.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from rowlock.api.v1alpha1 import DistributedTrainingJob, JobStatus
from rowlock.local.durable import write_whole
from rowlock.local.errors import LocalError, refused
from rowlock_operator.core.model import Job

_ELSEWHERE = "choose another directory with --state-dir"
_MAKE_ROOM = "make room or " + _ELSEWHERE


@dataclass(frozen=True)
class StoredJob:
    """What is kept of a job between two runs."""

    uid: str
    generation: int
    spec: dict[str, object]
    status: JobStatus


class JobDirectory:
    """The directory of the job that a manifest names. Hold it with `lock` while running the job."""

    def __init__(self, root: Path, manifest: DistributedTrainingJob) -> None:
        meta, named = manifest.metadata, manifest.spec.checkpoint.storage.claim_name
        namespace = root / meta.namespace
        self.path = namespace / meta.name
        self.logs = self.path / "logs"
        self.token_file = self.path / "token"
        #: Stands for the job's claim; a claim of one's own is shared, so it lies beside the jobs.
        self.checkpoints = self.path / "checkpoints" if named is None else namespace / ".claims" / named / meta.name
        self._manifest = manifest
        self._lock: IO[str] | None = None

    def lock(self) -> None:
        """Hold the job alone; the lock is this process's own, no child inherits it.

        Raises:
            LocalError: Another run holds it, or it cannot be made.
        """
        path = self.path.with_name(f"{self.path.name}.lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = path.open("a+")
            # Not flock: that lock would live on in the forked warm parent, and outlive this process with it.
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.unlock()
            raise LocalError(
                f"{self.path}: another `rowlock run` of this job is going on; wait for it, stop it with ctrl-C, "
                f"or {_ELSEWHERE}"
            ) from error
        except OSError as error:
            raise refused(path, error, _ELSEWHERE) from error

    def unlock(self) -> None:
        """Let the next run have it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def make(self) -> None:
        """Make what a run needs: the directory, and in it those of the logs and the token.

        Raises:
            LocalError: One cannot be made.
        """
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise refused(self.logs, error, _ELSEWHERE) from error
        self.token()

    def make_claim(self) -> None:
        """Make the directory of the checkpoints.

        Raises:
            LocalError: It cannot be made.
        """
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise refused(self.checkpoints, error, _MAKE_ROOM) from error

    def load(self) -> Job:
        """Return the job that the manifest names, with the status an earlier run left, if one did.

        Raises:
            LocalError: What an earlier run left cannot be read.
        """
        stored = self._stored()
        spec = self._manifest.spec.model_dump(mode="json", by_alias=True)
        if stored is None:
            uid, generation, status = str(uuid.uuid4()), 1, JobStatus()
        else:
            changed = {**stored.spec, "suspend": False} != {**spec, "suspend": False}
            uid, generation, status = stored.uid, stored.generation + changed, stored.status
        meta = self._manifest.metadata
        return Job(meta.namespace, meta.name, uid, generation, self._manifest.spec, status)

    def save(self, job: Job) -> None:
        """Write identity, spec and status.

        Raises:
            LocalError: They cannot be written; what was kept before is still there.
        """
        text = json.dumps(
            {
                "uid": job.uid,
                "generation": job.generation,
                "spec": job.spec.model_dump(mode="json", by_alias=True),
                "status": job.status.model_dump(mode="json", by_alias=True, exclude_none=True),
            },
            indent=1,
        )
        path = self.path / "job.json"
        try:
            write_whole(path, text)
        except OSError as error:
            raise refused(path, error, "the job's status cannot be kept; make room") from error

    def add_recoveries(self, recoveries: list[dict[str, object]]) -> None:
        """Keep what each loss of this run cost behind those of the job's earlier runs, for tables and pictures.

        Raises:
            LocalError: They cannot be kept.
        """
        path = self.path / "recoveries.json"
        try:
            earlier = json.loads(path.read_text()) if path.exists() else []
            write_whole(path, json.dumps([*earlier, *recoveries], indent=1))
        except OSError as error:
            raise refused(path, error, "make room, or move what is in the way") from error
        except (ValueError, TypeError) as error:
            raise LocalError(f"{path}: what earlier runs left is no list of recoveries; move it away") from error

    def token(self) -> str:
        """Return the job's token, made up at the first call.

        Raises:
            LocalError: It can be neither read nor written.
        """
        try:
            if self.token_file.exists() and (kept := self.token_file.read_text().strip()):
                return kept
            token = secrets.token_urlsafe(32)
            write_whole(self.token_file, token)
        except OSError as error:
            raise refused(self.token_file, error, _MAKE_ROOM) from error
        return token

    def set_aside(self) -> list[Path]:
        """Move an earlier run and its checkpoints out of the way; return where they went, nothing for none.

        Raises:
            LocalError: Something cannot be moved; it is still where it was.
        """
        moved = []
        number = 1
        while any(os.path.lexists(_aside(path, number)) for path in (self.path, self.checkpoints)):
            number += 1
        # The checkpoints first: a run without its checkpoints starts over, one without its status would not.
        for path in dict.fromkeys((self.checkpoints, self.path)):
            if path.is_relative_to(self.path) and path != self.path:
                continue  # goes with the job's own directory
            try:
                if path.exists() and any(path.iterdir()):
                    path.rename(_aside(path, number))
                    moved.append(_aside(path, number))
            except OSError as error:
                raise refused(path, error, f"it cannot be moved aside; move it yourself, or {_ELSEWHERE}") from error
        return moved

    def _stored(self) -> StoredJob | None:
        path = self.path / "job.json"
        try:
            fields = json.loads(path.read_text())
            status = JobStatus.model_validate(fields["status"])
            return StoredJob(fields["uid"], fields["generation"], fields["spec"], status)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise refused(path, error, "it cannot be read; start over with --fresh, which moves it aside") from error
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise LocalError(
                f"{path}: what the last run left cannot be read ({type(error).__name__}); "
                "start over with --fresh, which moves it aside and keeps it"
            ) from error


def _aside(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
