"""A job as the API server tells it, read into the core's words."""

from __future__ import annotations

from typing import Any

import pydantic

from rowlock.api.v1alpha1 import JobSpec, JobStatus
from rowlock_operator.core.model import Job

Json = dict[str, Any]


class UnreadableJobError(ValueError):
    """The job passed the API server's schema but does not fit this operator's: the versions differ."""


class JobReader:
    """Reads jobs, and each version of a spec only once: specs change seldom, status all the time."""

    def __init__(self) -> None:
        self._specs: dict[str, tuple[int, JobSpec]] = {}

    def read(self, body: Json) -> Job:
        """Return the job that `body` is. Raises `UnreadableJobError`, naming the fields."""
        meta = body["metadata"]
        try:
            return Job(
                namespace=meta["namespace"],
                name=meta["name"],
                uid=meta["uid"],
                generation=meta["generation"],
                spec=self._spec(meta["uid"], meta["generation"], body["spec"]),
                status=JobStatus.model_validate(body.get("status") or {}),
                deleting=bool(meta.get("deletionTimestamp")),
            )
        except pydantic.ValidationError as error:
            words = "; ".join(
                f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in error.errors()[:5]
            )
            raise UnreadableJobError(
                f"{words}. The CustomResourceDefinition and the operator are of different versions: "
                "apply the definition that came with this operator"
            ) from error

    def forget(self, uid: str) -> None:
        """Drop what is known of a job that is gone."""
        self._specs.pop(uid, None)

    def _spec(self, uid: str, generation: int, raw: Json) -> JobSpec:
        known = self._specs.get(uid)
        if known is None or known[0] != generation:
            known = self._specs[uid] = (generation, JobSpec.model_validate(raw))
        return known[1]
