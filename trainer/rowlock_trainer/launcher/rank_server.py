"""The launcher's end of the wire to its ranks: `rowlock_trainer.channel` is the other end.

A Unix socket in a directory that only this user may enter. Each rank's first line says who it is; a line
from a rank of another generation, or of a number that is not here, ends its connection.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from rowlock.protocol import MAX_MESSAGE_BYTES, ProtocolError, decode, encode
from rowlock_trainer.channel import RankCommand, RankState

log = logging.getLogger("rowlock.launcher")


class RankServer:
    """Hears the states of local ranks and tells them the launcher's wish.

    Args:
        heard: Takes a rank's state; returns False when no such rank is here.
    """

    def __init__(self, heard: Callable[[RankState], bool]) -> None:
        self._heard = heard
        self._command = RankCommand()
        self._writers: set[asyncio.StreamWriter] = set()
        self._closed: dict[int, asyncio.Future[None]] = {}
        self._folder = ""
        self._server: asyncio.Server | None = None
        self.path = ""

    async def start(self) -> None:
        """Listen on a socket in a new private directory."""
        self._folder = tempfile.mkdtemp(prefix="rowlock-")
        self.path = str(Path(self._folder) / "ranks")
        self._server = await asyncio.start_unix_server(self._serve, self.path, limit=MAX_MESSAGE_BYTES)

    def stop(self) -> None:
        """Close the socket and remove its directory."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def command(self, command: RankCommand) -> None:
        """Tell all ranks, those that connect later too."""
        self._command = command
        for writer in self._writers:
            writer.write(_line(command))

    async def said_all(self, rank: int) -> None:
        """Wait until all that a rank has said is heard. Returns at once when it never connected."""
        if (closed := self._closed.get(rank)) is not None:
            await closed

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        writer.write(_line(self._command))
        try:
            async for line in reader:
                state = decode(line, RankState)
                if not self._heard(state):
                    return
                self._closed[state.rank] = closed
        except (ProtocolError, ValueError) as error:
            # ValueError: a line longer than the limit.
            log.warning("a rank broke the protocol of its channel: %s", error)
        except ConnectionError:
            return  # the rank was killed in the middle of a line; its ending is told by the warm parent
        finally:
            self._writers.discard(writer)
            writer.close()
            if not closed.done():
                closed.set_result(None)


def _line(command: RankCommand) -> bytes:
    return encode(command).encode() + b"\n"
