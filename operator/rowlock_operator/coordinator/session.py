"""The conversation with one launcher: a greeting, then reports until the line ends.

Whatever comes over the line is judged before it is used. A launcher that breaks the protocol is told how,
in the reason of the close frame, because its log is where a person will look.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import TypeVar

from aiohttp import WSCloseCode, WSMsgType, web

from rowlock.protocol import OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION, Hello, ProtocolError, Report, decode
from rowlock_operator.coordinator.connection import LauncherConnection
from rowlock_operator.coordinator.crew import Crew

#: How long a connection may stay open without a greeting, in seconds. A launcher greets at once.
GREETING_SECONDS = 10.0
#: Characters of a pod UID (36 in Kubernetes) and of an address (a DNS name has at most 253).
_UID_CHARS = 128
_ADDRESS_CHARS = 300

T = TypeVar("T", Hello, Report)


class RefusedError(Exception):
    """The launcher broke the protocol; carries the close code and what to tell it."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Session:
    """One launcher's connection, from greeting to end."""

    def __init__(
        self,
        crew: Crew,
        socket: web.WebSocketResponse,
        connection: LauncherConnection,
        worker: int,
        clock: Callable[[], datetime],
        changed: Callable[[], None],
    ) -> None:
        self._crew = crew
        self._socket = socket
        self._connection = connection
        self._worker = worker
        self._clock = clock
        self._changed = changed

    async def run(self) -> None:
        """Talk until the line ends. A refusal is told to the launcher and raised.

        Raises:
            RefusedError: The launcher broke the protocol.
        """
        try:
            texts = self._texts()
            hello = await self._greeting(texts)
            await self._listen(hello, texts)
        except RefusedError as refused:
            await self._connection.close(refused.code, refused.reason)
            raise

    async def _greeting(self, texts: AsyncIterator[str]) -> Hello:
        try:
            async with asyncio.timeout(GREETING_SECONDS):
                text = await anext(texts)
        except TimeoutError:
            raise RefusedError(WSCloseCode.POLICY_VIOLATION, "no Hello within 10 s") from None
        except StopAsyncIteration:
            raise RefusedError(WSCloseCode.PROTOCOL_ERROR, "closed before its Hello") from None
        hello = _read(text, Hello)
        self._check(hello)
        return hello

    def _check(self, hello: Hello) -> None:
        if not OLDEST_PROTOCOL_VERSION <= hello.protocol <= PROTOCOL_VERSION:
            raise RefusedError(
                WSCloseCode.PROTOCOL_ERROR,
                f"launcher speaks protocol {hello.protocol}, this operator {OLDEST_PROTOCOL_VERSION} to "
                f"{PROTOCOL_VERSION}: use images of one release",
            )
        if hello.worker != self._worker:
            raise RefusedError(
                WSCloseCode.POLICY_VIOLATION, f"Hello.worker is {hello.worker}, the address says {self._worker}"
            )
        for name, text, limit in (("podUid", hello.pod_uid, _UID_CHARS), ("address", hello.address, _ADDRESS_CHARS)):
            if not 0 < len(text) <= limit:
                raise RefusedError(
                    WSCloseCode.POLICY_VIOLATION, f"Hello.{name} has {len(text)} characters, must have 1 to {limit}"
                )

    async def _listen(self, hello: Hello, texts: AsyncIterator[str]) -> None:
        if self._crew.join(hello, self._connection, self._clock()):
            self._changed()
        try:
            async for text in texts:
                if self._crew.heard(hello, self._connection, _read(text, Report), self._clock()):
                    self._changed()
        finally:
            if self._crew.left(hello, self._connection):
                self._changed()

    async def _texts(self) -> AsyncIterator[str]:
        """Yield text messages. The server has already closed the line on one that is too long."""
        async for message in self._socket:
            if message.type is not WSMsgType.TEXT:
                raise RefusedError(WSCloseCode.UNSUPPORTED_DATA, "only text messages are spoken here")
            yield message.data


def _read(text: str, kind: type[T]) -> T:
    try:
        return decode(text, kind)
    except ProtocolError as error:
        raise RefusedError(WSCloseCode.INVALID_TEXT, str(error)) from error
