"""The coordinator: a WebSocket server that tells launchers what to do and hears how it goes.

It decides nothing and stores nothing. What it knows of launchers it has from their last reports, and the
order it hands out is the last one `publish` was given, so it may be stopped at any time: launchers train
on, come back, and say everything again. It runs inside the leading operator and inside the local runner.
Everything here happens on one event loop; `publish`, `launchers` and `forget` are to be called from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from aiohttp import web

from rowlock.api.v1alpha1 import MAX_WORKERS
from rowlock.protocol import LEASE_SECONDS, MAX_MESSAGE_BYTES, Order
from rowlock_operator.coordinator.connection import LauncherConnection
from rowlock_operator.coordinator.crew import MAX_CONNECTIONS, Crew
from rowlock_operator.coordinator.gate import Gate, Key, TokenLookup, TooManyFailuresError
from rowlock_operator.coordinator.session import RefusedError, Session
from rowlock_operator.core.model import Launcher

log = logging.getLogger("rowlock.coordinator")

PATH = "/v1alpha1/jobs/{namespace}/{name}/workers/{worker}"
#: How often leases are looked at, in seconds: a lease is overrun by at most this.
EXPIRY_SECONDS = 1.0
#: A round of lease checks this late means that this process was not running (or that the clock was set):
#: nobody was listened to, so nobody's lease may run out by it.
_LAPSE = timedelta(seconds=LEASE_SECONDS / 3)
#: Jobs remembered; beyond it the longest unused without a connection go. 2.5 times the 20,000 jobs the
#: operator is tested with.
MAX_JOBS = 50_000
#: How long a closing handshake may take, in seconds. A launcher answers at once or is gone.
_CLOSE_SECONDS = 1.0


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Coordinator:
    """Both ears and the voice of the operator toward its crews.

    Args:
        token_of: Returns the token of a job (namespace, name), None when there is no such job.
        on_change: Called with namespace and name whenever `launchers` would answer anew.
        clock: Time of day, with time zone.
    """

    def __init__(
        self,
        *,
        token_of: TokenLookup,
        on_change: Callable[[str, str], None],
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        #: The web application: mount further routes (health, metrics) before `start`.
        self.app = web.Application()
        self.app.router.add_get(PATH, self._serve)
        self._gate = Gate(token_of, clock)
        self._on_change = on_change
        self._clock = clock
        self._crews: OrderedDict[Key, Crew] = OrderedDict()
        self._sockets: set[web.WebSocketResponse] = set()
        self._runner: web.AppRunner | None = None
        self._expiry: asyncio.Task[None] | None = None
        self._stopping = False
        self._last_expiry = clock()
        #: Since when launchers could be heard without a break; None before `start`.
        self.listening_since: datetime | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port bound; port 0 lets the operating system choose."""
        self._runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=_CLOSE_SECONDS)
        await self._runner.setup()
        # A backlog as long as the largest crew, which comes back all at once.
        await web.TCPSite(self._runner, host, port, backlog=MAX_WORKERS).start()
        self._last_expiry = self._clock()
        self.listen_anew()
        self._expiry = asyncio.create_task(self._expire_for_ever(), name="coordinator-leases")
        return int(self._runner.addresses[0][1])

    def listen_anew(self) -> None:
        """Count from now on since when launchers could be heard: until now they were turned away."""
        self.listening_since = self._clock()

    async def stop(self) -> None:
        """Close every connection and stop listening. Launchers train on and try again."""
        self._stopping = True
        if self._expiry is not None:
            self._expiry.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._expiry
        if self._runner is not None:
            for site in list(self._runner.sites):
                await site.stop()
            closing = (socket.close(code=1001, message=b"the coordinator stops") for socket in self._sockets)
            await asyncio.gather(*closing, return_exceptions=True)
            await self._runner.cleanup()

    def launchers(self, namespace: str, name: str) -> tuple[Launcher, ...]:
        """Return the launchers of a job that have reported, by worker; those that left lately too."""
        crew = self._crews.get((namespace, name))
        return crew.launchers() if crew else ()

    def publish(self, namespace: str, name: str, order: Order) -> None:
        """Remember the job's order and send it to every launcher that has not been sent it yet."""
        self._crew((namespace, name)).publish(order)

    def forget(self, namespace: str, name: str) -> None:
        """Drop all that is known of a job that is gone, and its launchers' connections."""
        self._gate.forget(namespace, name)
        crew = self._crews.pop((namespace, name), None)
        for member in crew.members.values() if crew else ():
            if member.connection is not None:
                connection, member.connection = member.connection, None
                connection.drop("the job is gone")

    def expire(self) -> None:
        """Drop launchers whose lease ran out. Called every second while the coordinator is started."""
        now = self._clock()
        elapsed, self._last_expiry = now - self._last_expiry, now
        if elapsed > _LAPSE:
            self.listen_anew()
        for key, crew in list(self._crews.items()):
            if elapsed > _LAPSE:
                crew.extend_leases(elapsed)
            elif crew.expire(now):
                self._changed(key)

    def _changed(self, key: Key) -> None:
        # Launchers that leave because this side stops have not changed.
        if not self._stopping:
            self._on_change(*key)

    async def _expire_for_ever(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_SECONDS)
            self.expire()

    def _crew(self, key: Key) -> Crew:
        crew = self._crews.setdefault(key, Crew())
        self._crews.move_to_end(key)
        if len(self._crews) > MAX_JOBS:
            idle = (other for other, one in self._crews.items() if not one.connections and other != key)
            if (oldest := next(idle, None)) is not None:
                del self._crews[oldest]
        return crew

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        key = (request.match_info["namespace"], request.match_info["name"])
        await self._admit(request, key)
        worker = _worker_index(request.match_info["worker"])
        crew = self._crew(key)
        if crew.connections >= MAX_CONNECTIONS:
            raise web.HTTPServiceUnavailable(text=f"this job holds {crew.connections} connections already")
        crew.connections += 1
        try:
            return await self._converse(request, key, crew, worker)
        finally:
            crew.connections -= 1

    async def _admit(self, request: web.Request, key: Key) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            admitted = scheme.lower() == "bearer" and await self._gate.admits(*key, token, request.remote or "")
        except TooManyFailuresError:
            raise web.HTTPTooManyRequests(headers={"Retry-After": "1"}) from None
        except Exception as error:  # the lookup is the caller's: whatever it raises means "cannot say now"
            log.warning("%s/%s: its token cannot be looked up: %s", *key, error)
            raise web.HTTPServiceUnavailable(text="the token cannot be looked up; try again") from error
        if not admitted:
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"}, text="unknown job or wrong token")

    async def _converse(self, request: web.Request, key: Key, crew: Crew, worker: int) -> web.WebSocketResponse:
        # The heartbeat keeps idle lines open in whatever lies between; a silent launcher's end is its lease.
        socket = web.WebSocketResponse(
            timeout=_CLOSE_SECONDS, heartbeat=LEASE_SECONDS, max_msg_size=MAX_MESSAGE_BYTES, compress=False
        )
        await socket.prepare(request)
        line = f"{key[0]}/{key[1]} worker {worker}"
        connection = LauncherConnection(line, socket, request.transport)
        session = Session(crew, socket, connection, worker, self._clock, lambda: self._changed(key))
        writer = asyncio.create_task(connection.write_orders(), name=f"orders to {line}")
        self._sockets.add(socket)
        try:
            await session.run()
        except RefusedError as refused:
            log.warning("%s: connection refused: %s", line, refused.reason)
        finally:
            self._sockets.discard(socket)
            writer.cancel()
        return socket


def _worker_index(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and int(text) < MAX_CONNECTIONS):
        raise web.HTTPNotFound(text=f"worker {text!r}: must be a number below {MAX_CONNECTIONS}")
    return int(text)
