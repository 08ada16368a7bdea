"""Who may speak for a job: whoever holds the job's own token.

Looking a token up costs a request to the API server, so a crew of a thousand launchers coming back at once
shares one lookup, and a peer that keeps guessing runs out of lookups. A token that was right a moment ago is
taken without asking again, which also means that one bad neighbour behind the same address cannot lock out
a crew that is already known. An unknown job and a wrong token are answered alike, so that nobody learns
which jobs exist.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

TokenLookup = Callable[[str, str], Awaitable[str | None]]
Key = tuple[str, str]
K = TypeVar("K")
V = TypeVar("V")

#: How long a token is taken without asking again: long enough for a crew's reconnection, short enough that a
#: token made anew counts soon (one that was made anew and differs is looked up at once anyway).
TOKEN_KEPT = timedelta(seconds=60)
#: Failed lookups a peer may spend at once: a launcher's own retries over its first seconds stay below it.
FAILURES_AT_ONCE = 10
#: Lookups a peer earns back, per second. A launcher's slowest retry is one in five seconds.
FAILURES_PER_SECOND = 1.0
#: Peers and tokens remembered; the longest unused go first. About 100 bytes each.
REMEMBERED = 50_000
#: Longest token looked at, in characters.
TOKEN_CHARS = 1024
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class TooManyFailuresError(Exception):
    """This peer gave wrong tokens too often; it may try again in a second."""


@dataclass(frozen=True)
class _Known:
    token: str
    since: datetime


@dataclass
class _Allowance:
    """Failures a peer may still make: a token bucket."""

    left: float
    since: datetime

    def refill(self, now: datetime) -> None:
        earned = (now - self.since).total_seconds() * FAILURES_PER_SECOND
        self.left = min(FAILURES_AT_ONCE, self.left + max(0.0, earned))
        self.since = now


class Gate:
    """Compares the token a launcher shows with the one its job has."""

    def __init__(self, token_of: TokenLookup, clock: Callable[[], datetime]) -> None:
        self._token_of = token_of
        self._clock = clock
        self._known: OrderedDict[Key, _Known] = OrderedDict()
        self._allowances: OrderedDict[str, _Allowance] = OrderedDict()
        self._lookups: dict[Key, asyncio.Task[str | None]] = {}

    async def admits(self, namespace: str, name: str, token: str, peer: str) -> bool:
        """Return whether `token` is the token of the job.

        Args:
            namespace: Namespace of the job.
            name: Name of the job.
            token: What the launcher showed.
            peer: Address it comes from, for counting failures.

        Raises:
            TooManyFailuresError: The peer has no lookups left.
        """
        key = (namespace, name)
        known = self._known.get(key)
        if known and self._clock() - known.since < TOKEN_KEPT and _same(known.token, token):
            return True
        allowance = self._allowance(peer)
        if allowance.left < 1:
            raise TooManyFailuresError
        right = await self._look_up(key)
        if right is not None:
            _keep(self._known, key, _Known(right, self._clock()))
        # The comparison is made for an unknown job too, so that both answers take the same way.
        if _same(right or "", token) and right:
            return True
        allowance.left -= 1
        return False

    def forget(self, namespace: str, name: str) -> None:
        """Drop what is known of a job that is gone."""
        self._known.pop((namespace, name), None)

    def _allowance(self, peer: str) -> _Allowance:
        now = self._clock()
        allowance = self._allowances.get(peer) or _Allowance(FAILURES_AT_ONCE, now)
        allowance.refill(now)
        _keep(self._allowances, peer, allowance)
        return allowance

    async def _look_up(self, key: Key) -> str | None:
        if not all(_NAME.fullmatch(part) for part in key):
            return None  # no such job can exist, and the text must not reach a URL of the API server
        running = self._lookups.get(key)
        if running is None:
            running = asyncio.ensure_future(self._token_of(*key))
            self._lookups[key] = running
            running.add_done_callback(lambda _: self._lookups.pop(key, None))
        # Shielded: one launcher hanging up must not cancel the lookup that others wait for.
        return await asyncio.shield(running)


def _same(right: str, shown: str) -> bool:
    return hmac.compare_digest(right.encode(), shown[:TOKEN_CHARS].encode("utf-8", "surrogateescape"))


def _keep(kept: OrderedDict[K, V], key: K, value: V) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > REMEMBERED:
        kept.popitem(last=False)
