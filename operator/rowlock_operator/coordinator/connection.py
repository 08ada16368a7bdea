"""The coordinator's end of one launcher's WebSocket.

Orders are level-triggered, so a launcher that reads slowly needs the newest one and no other: the outbox is
a single slot, each connection has its own writer, and nobody waits for anybody.
"""

from __future__ import annotations

import asyncio
import logging

from aiohttp import ClientConnectionResetError, web

from rowlock.protocol import Order, encode

log = logging.getLogger("rowlock.coordinator")

#: Bytes that a WebSocket's close frame has room for.
_REASON_BYTES = 123


class LauncherConnection:
    """Sends orders to one launcher."""

    def __init__(self, name: str, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self._name = name
        self._socket = socket
        self._transport = transport
        self._newest: Order | None = None
        self._sent: Order | None = None
        self._wake = asyncio.Event()

    def offer(self, order: Order) -> None:
        """Send this order next, in place of any that was not sent yet."""
        self._newest = order
        self._wake.set()

    def drop(self, reason: str) -> None:
        """Cut the connection. No closing handshake: the other side is silent, or already connected anew."""
        log.info("%s: connection cut: %s", self._name, reason)
        if self._transport is not None:
            self._transport.abort()

    async def close(self, code: int, reason: str) -> None:
        """Close with a reason the launcher can log."""
        text = reason.encode()[:_REASON_BYTES].decode(errors="ignore")
        await self._socket.close(code=code, message=text.encode())

    async def write_orders(self) -> None:
        """Send orders as they are offered, until cancelled or until the launcher is gone."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            order = self._newest
            if order is None or order == self._sent:
                continue
            try:
                await self._socket.send_str(encode(order))
            except (ClientConnectionResetError, ConnectionError):
                return  # the reading side sees the same end and tells the crew
            self._sent = order
