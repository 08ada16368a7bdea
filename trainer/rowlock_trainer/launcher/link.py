"""The launcher's line to the coordinator: reports go out, orders come in, and it always comes back.

Training does not depend on it. When the line breaks the launcher tries again for ever, with growing,
jittered delays so that a crew of a thousand does not come back in one instant, and says its whole state.

How soon a new leader is found, when the one before died without a word: its end is noticed after a ping and its
timeout (10 s at most), sooner than it is replaced. From then on a try to reach it ends after 5 s at the latest, and
the next one follows at most 5 s later. So a launcher is back within 10 s after the coordinator's address leads to the
new leader, in time for the lease it is then given, and long before the operator calls it unreachable (60 s).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import replace

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from rowlock.protocol import (
    HEARTBEAT_SECONDS,
    LEASE_SECONDS,
    MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION,
    Hello,
    Order,
    ProtocolError,
    Report,
    decode,
    encode,
)
from rowlock_trainer.launcher.settings import Settings, SettingsError

log = logging.getLogger("rowlock.launcher")
#: The library's own log names every header at its lowest level, the token's among them.
_quiet = logging.getLogger("rowlock.launcher.websocket")
_quiet.setLevel(logging.WARNING)

#: First and longest delay before another try, in seconds: quick enough for a coordinator that was restarted,
#: slow enough that a thousand launchers ask an absent one 200 times a second in all.
FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0
#: Least time between two reports that differ in progress alone, in seconds: faster than a person reads.
PROGRESS_SECONDS = 0.5
#: How long a try, and a closing handshake, may take, in seconds. TCP asks after 0, 1 and 3 s, and then after 7 s only.
_OPEN_SECONDS = 5.0
_CLOSE_SECONDS = 1.0
#: How long one of several addresses may keep silent before the next is tried beside it, in seconds (RFC 8305, 5).
_NEXT_ADDRESS_SECONDS = 0.25
_UNAUTHORIZED = 401


class Link:
    """Says `report()` whenever it changes, and hands orders to `obey`."""

    def __init__(self, settings: Settings, report: Callable[[], Report], obey: Callable[[Order], None]) -> None:
        self._settings = settings
        self._report = report
        self._obey = obey
        self._hello = Hello(PROTOCOL_VERSION, settings.config.worker, settings.pod_uid, settings.address)
        self._changed = asyncio.Event()
        self._said: Report | None = None
        self._said_at = 0.0
        self._progressed = asyncio.Event()
        self._connected = False
        self._delay = FIRST_DELAY

    def changed(self) -> None:
        """Have the report looked at again."""
        self._changed.set()

    async def flush(self, seconds: float) -> None:
        """Wait until the report as it is now is said, for at most this long; not at all without a line."""
        self.changed()
        try:
            async with asyncio.timeout(seconds):
                while self._connected and self._said != self._report():
                    self._progressed.clear()
                    await self._progressed.wait()
        except TimeoutError:
            log.warning("the last report did not reach the coordinator within %.0f s", seconds)

    async def run(self) -> None:
        """Hold the line until cancelled."""
        trouble = ""
        while True:
            try:
                await self._converse()
                now = "the coordinator closed the line"
            except (OSError, TimeoutError, WebSocketException, SettingsError) as error:
                now = _words(error)
            if now != trouble:
                log.warning("no line to the coordinator (%s); ranks go on, trying again", now)
            trouble = "" if self._delay == FIRST_DELAY else now
            await asyncio.sleep(self._delay * random.uniform(0.5, 1.0))  # noqa: S311 (spreads tries, guards nothing)
            self._delay = min(LONGEST_DELAY, 2 * self._delay)

    async def _converse(self) -> None:
        headers = {"Authorization": f"Bearer {self._settings.token()}"}
        async with connect(
            self._settings.url,
            additional_headers=headers,
            compression=None,
            proxy=None,
            open_timeout=_OPEN_SECONDS,
            happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS,
            close_timeout=_CLOSE_SECONDS,
            # A coordinator that vanished without a word is noticed within a lease.
            ping_interval=LEASE_SECONDS / 3,
            ping_timeout=LEASE_SECONDS / 3,
            max_size=MAX_MESSAGE_BYTES,
            logger=_quiet,
        ) as line:
            await line.send(encode(self._hello))
            self._said, self._connected = None, True
            log.info("connected to the coordinator")
            saying = asyncio.create_task(self._say(line), name="reports")
            try:
                await self._listen(line)
            finally:
                self._connected = False
                self._progressed.set()
                saying.cancel()

    async def _listen(self, line: ClientConnection) -> None:
        async for text in line:
            try:
                order = decode(text, Order)
            except ProtocolError as error:
                log.warning("order not understood, ignored: %s", error)
                continue
            self._delay = FIRST_DELAY  # only a coordinator that gives orders is worth a quick return
            self._obey(order)

    async def _say(self, line: ClientConnection) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            report = self._report()
            wait = self._due(report) - loop.time()
            if wait > 0:
                try:
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
                except TimeoutError:
                    self._changed.set()  # due now: look again
                continue
            try:
                await line.send(encode(report))
            except ConnectionClosed:
                return  # the listening side sees the same end
            self._said, self._said_at = report, loop.time()
            self._progressed.set()

    def _due(self, report: Report) -> float:
        """Return when, in the loop's time, this report is to be said."""
        if self._said is None:
            return 0.0
        if report == self._said:
            return self._said_at + HEARTBEAT_SECONDS
        if replace(report, progress=self._said.progress) == self._said:
            return self._said_at + PROGRESS_SECONDS
        return 0.0


def _words(error: Exception) -> str:
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        if status == _UNAUTHORIZED:
            return "401: the coordinator does not know this job, or the token is not the job's"
        return f"the coordinator answered {status}"
    if isinstance(error, ConnectionClosed) and error.rcvd is not None:
        return f"closed by the coordinator: {error.rcvd.reason or error.rcvd.code}"
    return str(error) or type(error).__name__
