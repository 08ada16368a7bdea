"""The Secret with the token by which a job's launchers are known to the coordinator."""

from __future__ import annotations

import base64
from typing import Any

from rowlock_operator.core.model import Job
from rowlock_operator.resources.names import metadata, secret_name

#: Key of the Secret, and name of the file in the worker.
TOKEN_KEY = "token"  # noqa: S105 (a name, no secret)


def build_secret(job: Job, token: str) -> dict[str, Any]:
    """Return the Secret of `job` with `token` in it. It cannot be changed, only deleted with its job."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(job, secret_name(job.name)),
        "type": "Opaque",
        "immutable": True,
        "data": {TOKEN_KEY: base64.b64encode(token.encode()).decode()},
    }


def token_in(secret: dict[str, Any]) -> str | None:
    """Return the token a Secret holds, None when it holds none that could be read."""
    encoded = (secret.get("data") or {}).get(TOKEN_KEY)
    if not isinstance(encoded, str):
        return None
    try:
        return base64.b64decode(encoded, validate=True).decode() or None
    except ValueError:
        return None
