"""The one write to a job's status: as small as the change, and only on the version it was decided on.

A JSON merge patch says what changes and nothing else. The resource version in it makes the server refuse
the write when the job changed since it was read; then everything is read and decided anew. This is what
makes counting exact: two writes that count the same fault cannot both succeed.
"""

from __future__ import annotations

from typing import Any

from rowlock.api.v1alpha1 import JobStatus

Json = dict[str, Any]


def status_patch(held: Json, wanted: JobStatus) -> Json:
    """Return the merge patch (RFC 7386) that turns the status held by the server into `wanted`.

    Empty when nothing differs.
    """
    return _difference(held, wanted.model_dump(mode="json", by_alias=True, exclude_none=True))


def patch_body(job: Json, patch: Json) -> Json:
    """Return the body of the status write: refused with 409 if `job` is not the newest version."""
    return {"metadata": {"resourceVersion": job["metadata"]["resourceVersion"]}, "status": patch}


def _difference(held: Json, wanted: Json) -> Json:
    """Objects are compared part by part; lists and scalars are replaced whole, as merge patches do."""
    patch: Json = {name: None for name in held if name not in wanted}
    for name, value in wanted.items():
        before = held.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            inner = _difference(before, value)
            if inner:
                patch[name] = inner
        elif name not in held or before != value:
            patch[name] = value
    return patch
