"""Where a job lives on a laptop: one directory that stands for the API server, the claim and the logs.

``ROOT/NAME/`` holds ``job.json`` (identity, spec and status: what etcd holds in a cluster), ``token`` (the
job's Secret, readable by its owner only), ``checkpoints/`` (the claim), ``logs/`` and ``lock``. Everything
the next run needs is in it, so deleting the directory deletes the job.
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
from rowlock_operator.core.model import Job


class LocalError(Exception):
    """Something on this machine stands in the way; the message says what, and the way out."""


@dataclass(frozen=True)
class StoredJob:
    """What is kept of a job between two runs."""

    uid: str
    generation: int
    spec: dict[str, object]
    status: JobStatus


class JobDirectory:
    """One job's directory. Hold it with `lock` while running the job."""

    def __init__(self, root: Path, name: str) -> None:
        self.path = root / name
        self.logs = self.path / "logs"
        self.token_file = self.path / "token"
        self._lock: IO[str] | None = None

    def lock(self) -> None:
        """Make the directory and hold it alone.

        Raises:
            LocalError: Another run holds it, or it cannot be made.
        """
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / "lock").open("a+")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LocalError(
                f"{self.path}: another `rowlock run` of this job is going on; wait for it, stop it with ctrl-C, "
                "or choose another directory with --state-dir"
            ) from error
        except OSError as error:
            raise LocalError(f"{self.path}: {error.strerror}; choose another directory with --state-dir") from error

    def unlock(self) -> None:
        """Let the next run have it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def checkpoints(self, manifest: DistributedTrainingJob) -> Path:
        """Return the directory that stands for the job's claim; a named claim is shared beside the jobs."""
        named = manifest.spec.checkpoint.storage.claim_name
        if named is not None:
            return self.path.parent / "claims" / named / manifest.metadata.name
        return self.path / "checkpoints"

    def load(self, manifest: DistributedTrainingJob) -> Job:
        """Return the job that the manifest names, with the status an earlier run left, if one did.

        Raises:
            LocalError: What an earlier run left cannot be read.
        """
        stored = self._stored()
        spec = manifest.spec.model_dump(mode="json", by_alias=True)
        if stored is None:
            uid, generation, status = str(uuid.uuid4()), 1, JobStatus()
        else:
            changed = {**stored.spec, "suspend": False} != {**spec, "suspend": False}
            uid, generation, status = stored.uid, stored.generation + changed, stored.status
        meta = manifest.metadata
        return Job(meta.namespace, meta.name, uid, generation, manifest.spec, status)

    def save(self, job: Job) -> None:
        """Write identity, spec and status; a crash leaves the old or the new, never half of one."""
        text = json.dumps(
            {
                "uid": job.uid,
                "generation": job.generation,
                "spec": job.spec.model_dump(mode="json", by_alias=True),
                "status": job.status.model_dump(mode="json", by_alias=True, exclude_none=True),
            },
            indent=1,
        )
        fresh = self.path / "job.json.new"
        try:
            with fresh.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path / "job.json")
        except OSError as error:
            raise LocalError(f"{fresh}: the job's status cannot be written: {error.strerror}; make room") from error

    def write_recoveries(self, recoveries: list[dict[str, object]]) -> None:
        """Keep what each loss of this run cost, for tables and pictures."""
        (self.path / "recoveries.json").write_text(json.dumps(recoveries, indent=1))

    def token(self) -> str:
        """Return the job's token, made up at the first call."""
        if not self.token_file.exists():
            descriptor = os.open(self.token_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(32))
        return self.token_file.read_text()

    def set_aside(self) -> Path | None:
        """Move an earlier run out of the way and return where it went; None when there was none."""
        if not self.path.exists():
            return None
        number = 1
        while (target := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        self.path.rename(target)
        return target

    def _stored(self) -> StoredJob | None:
        path = self.path / "job.json"
        try:
            fields = json.loads(path.read_text())
            status = JobStatus.model_validate(fields["status"])
            return StoredJob(fields["uid"], fields["generation"], fields["spec"], status)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            raise LocalError(
                f"{path}: what the last run left cannot be read ({type(error).__name__}); "
                "start over with --fresh, which moves it aside and keeps it"
            ) from error
