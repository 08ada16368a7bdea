"""The launcher's end of the wire to its ranks: `rowlock_trainer.channel` is the other end.

A Unix socket in Linux's abstract namespace (unix(7)): a name without a file, so that no path can be too long
for it, no volume too full, and nothing is left behind by a launcher that was killed. A file's permissions
do not guard such a name. Instead it is drawn at random, and the kernel is asked who connected: only a
process of this launcher's own user, in its own PID namespace, is listened to.

Each rank's first line says who it is; a line from a rank of another generation, or of a number that is not
here, ends its connection.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from rowlock.protocol import MAX_MESSAGE_BYTES, ProtocolError, decode, encode
from rowlock_trainer.channel import RankCommand, RankState

log = logging.getLogger("rowlock.launcher")


#: struct ucred of the kernel: three ints.
_UCRED = struct.Struct("3i")


@dataclass(frozen=True)
class Peer:
    """The process at the other end of a Unix socket, as the kernel knew it when it connected (SO_PEERCRED)."""

    #: 0 for a process of another PID namespace.
    pid: int
    uid: int

    @classmethod
    def of(cls, writer: asyncio.StreamWriter) -> Peer:
        """Return who connected."""
        connection = writer.get_extra_info("socket")
        pid, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return cls(pid, uid)

    def may_speak(self, uid: int) -> bool:
        """Whether it is a process of this user that this PID namespace holds."""
        return self.uid == uid and self.pid != 0


class RankServer:
    """Hears the states of local ranks and tells them the launcher's wish.

    Args:
        heard: Takes a rank's state; returns False when no such rank is here.
        uid: User whose processes may speak; this process's own when None.
    """

    def __init__(self, heard: Callable[[RankState], bool], *, uid: int | None = None) -> None:
        self._heard = heard
        self._uid = os.geteuid() if uid is None else uid
        self._command = RankCommand()
        self._writers: set[asyncio.StreamWriter] = set()
        self._closed: dict[int, asyncio.Future[None]] = {}
        self._server: asyncio.Server | None = None
        #: Address of the socket; begins with a zero byte, as abstract ones do.
        self.path = ""

    async def start(self) -> None:
        """Listen under a new name."""
        self.path = f"\0rowlock-{secrets.token_hex(16)}"
        self._server = await asyncio.start_unix_server(self._serve, self.path, limit=MAX_MESSAGE_BYTES)

    def stop(self) -> None:
        """Close the socket and all connections."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()

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
        if not (peer := Peer.of(writer)).may_speak(self._uid):
            log.warning("process %d of user %d connected to the ranks' channel and was refused", peer.pid, peer.uid)
            writer.close()
            return
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
