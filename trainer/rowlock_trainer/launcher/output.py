"""What ranks print: each line marked with its rank, on the worker's own standard output.

The event loop must never wait for whoever reads the worker's log, or its lease would run out behind a slow
disk. So one thread writes, the loop only hands over, and when too much is waiting the *ranks'* pipes are no
longer read: a rank that floods its log is slowed down, as it would be by any pipe. Output is bytes
throughout; nothing is assumed of its encoding.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import threading
from typing import cast

from rowlock.protocol import TRACEBACK_CHARS

#: Bytes that may wait to be written before the ranks are slowed down, and below which they go on.
HIGH_WATER = 1 << 20
LOW_WATER = 1 << 18
#: Longest stretch without a line break that is kept together, in bytes.
LINE_BYTES = 1 << 16


class OutputWriter:
    """Writes to a descriptor from a thread of its own."""

    def __init__(self, descriptor: int, loop: asyncio.AbstractEventLoop) -> None:
        self._descriptor = descriptor
        self._loop = loop
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._paused: list[RankOutput] = []
        self._thread = threading.Thread(target=self._write_for_ever, name="rowlock-output", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Hand over whole lines. Never waits."""
        with self._lock:
            self._waiting += len(data)
        self._queue.put(data)

    @property
    def full(self) -> bool:
        """Whether so much is waiting that the ranks must be slowed down."""
        return self._waiting > HIGH_WATER

    def slow_down(self, output: RankOutput) -> None:
        """Stop reading from `output` while too much is waiting."""
        with self._lock:
            if not self.full:
                return
            self._paused.append(output)
        output.pause()

    def close(self, seconds: float) -> None:
        """Write what is waiting, for at most this long."""
        self._queue.put(None)
        self._thread.join(seconds)

    def _write_for_ever(self) -> None:
        while (data := self._queue.get()) is not None:
            self._write(data)
            with self._lock:
                self._waiting -= len(data)
                resumed = self._paused if self._waiting <= LOW_WATER else []
                if resumed:
                    self._paused = []
            for output in resumed:
                self._loop.call_soon_threadsafe(output.resume)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except OSError:
                return  # nobody reads the log any more; training goes on without one


class LogHandler(logging.Handler):
    """Writes log records through an `OutputWriter`."""

    def __init__(self, writer: OutputWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record as one line."""
        self._writer.write(self.format(record).encode("utf-8", "backslashreplace") + b"\n")


class RankOutput(asyncio.Protocol):
    """Reads one pipe of a rank, marks its lines, keeps its end."""

    def __init__(self, rank: int, writer: OutputWriter) -> None:
        self._prefix = f"[rank {rank}] ".encode()
        self._writer = writer
        self._rest = b""
        self._tail = b""
        self._transport: asyncio.ReadTransport | None = None
        self.closed = asyncio.get_running_loop().create_future()

    @property
    def tail(self) -> str:
        """The last lines, at most `TRACEBACK_CHARS` characters, without what a terminal would obey."""
        text = (self._tail + self._rest).decode("utf-8", "replace")
        return "".join(sign for sign in text if sign.isprintable() or sign in "\n\t").strip("\n")[-TRACEBACK_CHARS:]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.ReadTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass whole lines on; keep what is left for the next time."""
        lines, found, rest = (self._rest + data).rpartition(b"\n")
        if not found and len(rest) > LINE_BYTES:
            lines, found, rest = rest, b"\n", b""
        self._rest = rest
        if found:
            self._pass_on(lines)

    def connection_lost(self, error: Exception | None) -> None:
        """Pass on a last line without an end."""
        if self._rest:
            self._pass_on(self._rest)
            self._rest = b""
        if not self.closed.done():
            self.closed.set_result(None)

    def pause(self) -> None:
        """Stop reading."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Go on reading."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """Stop for good."""
        if self._transport is not None:
            self._transport.close()

    def _pass_on(self, lines: bytes) -> None:
        # A character has at most 4 bytes in UTF-8.
        self._tail = (self._tail + lines + b"\n")[-4 * TRACEBACK_CHARS :]
        self._writer.write(self._prefix + lines.replace(b"\n", b"\n" + self._prefix) + b"\n")
        self._writer.slow_down(self)


async def open_output(rank: int, writer: OutputWriter) -> tuple[RankOutput, int]:
    """Open a pipe for a rank; return the reader and the descriptor that the rank writes to."""
    reading, writing = os.pipe()
    loop = asyncio.get_running_loop()
    _, protocol = await loop.connect_read_pipe(lambda: RankOutput(rank, writer), os.fdopen(reading, "rb", buffering=0))
    return protocol, writing
