"""Each job's token: made up once, kept in a Secret, read by name only.

The operator may get and create Secrets but neither list nor watch them, so what it knows it has asked for
itself. A token is kept in memory for a while and never leaves it but for the comparison with what a
launcher presents; no message, status or log line of this room holds one.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from rowlock_operator.core.model import Job
from rowlock_operator.kube.client import ApiError, Client
from rowlock_operator.kube.pods import owner_uid
from rowlock_operator.kube.resources import SECRETS
from rowlock_operator.resources.names import secret_name
from rowlock_operator.resources.secret import build_secret, token_in

Key = tuple[str, str]

#: Bytes of entropy of a token: 256 bits, beyond any guessing.
TOKEN_BYTES = 32
#: How long a token is trusted to be still in its Secret, in seconds: a Secret that somebody deleted is
#: noticed, and made again, within this time.
TRUSTED_SECONDS = 300.0


@dataclass(frozen=True)
class _Held:
    job_uid: str
    token: str
    #: When it was last seen in its Secret, monotonic seconds.
    seen: float


class Tokens:
    """The tokens of the jobs this operator serves."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._held: dict[Key, _Held] = {}
        self._asking: dict[Key, asyncio.Lock] = {}

    async def of(self, namespace: str, name: str, job_uid: str) -> str | None:
        """Return the token of a job, None while its Secret does not exist.

        A Secret that belongs to an earlier job of the same name is none of this job's.
        """
        key = (namespace, name)
        # One question at a time for each job: a thousand launchers that come back at once ask for one.
        async with self._asking.setdefault(key, asyncio.Lock()):
            held = self._held.get(key)
            if held is not None and held.job_uid == job_uid and self._clock() - held.seen < TRUSTED_SECONDS:
                return held.token
            return await self._ask(key, job_uid)

    async def create(self, job: Job) -> None:
        """Create the Secret of `job`. Raises `ApiError`, with status 409 when one of that name exists."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        await self._client.create(SECRETS, job.namespace, build_secret(job, token))
        self._held[job.namespace, job.name] = _Held(job.uid, token, self._clock())

    def forget(self, namespace: str, name: str) -> None:
        """Drop what is known of a job that is gone."""
        self._held.pop((namespace, name), None)
        self._asking.pop((namespace, name), None)

    async def _ask(self, key: Key, job_uid: str) -> str | None:
        namespace, name = key
        self._held.pop(key, None)
        try:
            secret = await self._client.get(SECRETS, namespace, secret_name(name))
        except ApiError as error:
            if error.status in (403, 404):
                return None  # without the right to read it, creating it is refused too, and that is told
            raise
        token = token_in(secret)
        if owner_uid(secret) != job_uid or token is None:
            return None
        self._held[key] = _Held(job_uid, token, self._clock())
        return token
