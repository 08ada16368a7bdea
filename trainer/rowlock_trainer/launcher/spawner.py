"""The launcher's end of its warm parent: starts ranks, signals them, hears of their endings.

The first warm parent is forked from the launcher itself, before there is an event loop; where the launcher
was forked from a process that has torch imported already, as the local backend does, nothing is imported
twice. If it dies, its ranks die with it (the kernel sees to that), the launcher inherits and collects them,
and a new warm parent is *executed*, not forked, because by then the launcher may hold threads. One that dies
again and again before it is warm ends the launcher.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from rowlock.protocol import ExitCode, decode, encode
from rowlock_trainer.launcher import process, zygote
from rowlock_trainer.launcher.reaper import Reaper
from rowlock_trainer.launcher.wire import PACKET_BYTES, FromZygote, ToZygote
from rowlock_trainer.launcher.zygote import Warmth

#: Warm parents that may die in a row before they are warm.
COLD_DEATHS = 3
_ORPHANED = "its warm parent died"
#: What a warm parent that is executed runs. It is told where this process finds its modules: a launcher that was
#: copied into an image lies on nobody's path but its own.
_ZYGOTE = (
    "import os, sys; sys.path[:] = sys.argv.pop(1).split(os.pathsep); "
    f"from {zygote.__name__} import main; sys.exit(main())"
)


@dataclass(frozen=True)
class _Parcel:
    """A command on its way, with the descriptors that go with it."""

    command: ToZygote
    output: tuple[int, ...] = ()


class Spawner:
    """Starts and ends ranks through the warm parent."""

    def __init__(self, warmth: Warmth, reaper: Reaper) -> None:
        self._warmth = warmth
        self._reaper = reaper
        self._tell: Callable[[FromZygote], None] = lambda _: None
        self._outbox: deque[_Parcel] = deque()
        self._starting: set[int] = set()
        self._pids: dict[int, int] = {}
        self._line: socket.socket | None = None
        self._zygote = 0
        self._warm = False
        self._cold_deaths = 0
        self._closing = False

    @property
    def zygote_pid(self) -> int:
        """Process id of the warm parent."""
        return self._zygote

    def fork(self) -> None:
        """Fork the first warm parent. The calling process must hold one thread and no event loop."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sys.stdout.flush()
        sys.stderr.flush()
        self._zygote = os.fork()
        if self._zygote == 0:
            code: int = ExitCode.FAILED
            try:
                ours.close()
                code = zygote.serve(theirs, self._warmth)
            finally:
                os._exit(code)
        theirs.close()
        self._line = ours

    def attach(self, tell: Callable[[FromZygote], None]) -> None:
        """Pass what the warm parent tells on to `tell`, on the running loop."""
        self._tell = tell
        self._listen()

    def start(self, command: ToZygote, output: tuple[int, int]) -> None:
        """Start a rank as soon as the warm parent is warm. Takes over the descriptors of its output."""
        self._outbox.append(_Parcel(command, output))
        self._send()

    def signal(self, number: int) -> None:
        """Send a signal to the process groups of all ranks. Ranks not started yet are told as refused."""
        waiting = [parcel for parcel in self._outbox if parcel.command.kind == "start"]
        self._outbox.clear()
        self._outbox.append(_Parcel(ToZygote("signal", signal=number)))
        self._send()
        for parcel in waiting:
            _close(parcel.output)
            self._tell(FromZygote("refused", parcel.command.rank, reason="stopped before it was started"))

    def close(self) -> None:
        """End the warm parent, and with it any rank."""
        self._closing = True
        for pid in self._pids.values():
            self._kill_group(pid)
        if self._line is not None:
            asyncio.get_running_loop().remove_reader(self._line)
            self._line.close()
            self._line = None
        if self._zygote:
            # Not asked but killed: it may be in the middle of an import, and holds nothing worth keeping.
            os.kill(self._zygote, signal.SIGKILL)

    def _listen(self) -> None:
        if self._line is None:
            raise RuntimeError("fork() comes before attach()")
        self._line.setblocking(False)
        asyncio.get_running_loop().add_reader(self._line, self._hear)
        self._reaper.watch(self._zygote, self._zygote_ended)

    def _send(self) -> None:
        while self._warm and self._outbox and self._line is not None:
            parcel = self._outbox[0]
            try:
                socket.send_fds(self._line, [encode(parcel.command).encode()], parcel.output)
            except BlockingIOError:
                asyncio.get_running_loop().add_writer(self._line, self._send)
                return
            except (BrokenPipeError, ConnectionResetError):
                return  # it has died; its successor gets what is left
            self._outbox.popleft()
            if parcel.command.kind == "start":
                self._starting.add(parcel.command.rank)
            _close(parcel.output)
        if self._line is not None:
            asyncio.get_running_loop().remove_writer(self._line)

    def _hear(self) -> None:
        """Take all that the warm parent has told."""
        while self._line is not None:
            try:
                packet = self._line.recv(PACKET_BYTES)
            except BlockingIOError:
                return
            except ConnectionResetError:
                packet = b""
            if not packet:
                # Its end is acted on when it is reaped.
                asyncio.get_running_loop().remove_reader(self._line)
                return
            self._take(decode(packet, FromZygote))

    def _take(self, fact: FromZygote) -> None:
        if fact.kind == "warm":
            self._warm = True
            self._cold_deaths = 0
            self._send()
        elif fact.kind == "refused":
            self._starting.discard(fact.rank)
        elif fact.kind == "started":
            self._starting.discard(fact.rank)
            self._pids[fact.rank] = fact.pid
            self._reaper.forget(fact.pid)
        elif fact.kind == "ended":
            self._pids.pop(fact.rank, None)
        self._tell(fact)

    def _zygote_ended(self, status: int) -> None:
        self._zygote = 0
        if self._closing:
            return
        self._hear()
        if self._line is not None:
            asyncio.get_running_loop().remove_reader(self._line)
            asyncio.get_running_loop().remove_writer(self._line)
            self._line.close()
            self._line = None
        self._account_for_ranks()
        self._cold_deaths += not self._warm
        self._warm = False
        if self._cold_deaths >= COLD_DEATHS:
            how = process.ending(status)
            reason = f"the warm parent ended {self._cold_deaths} times before it was warm, the last time {how}"
            self._tell(FromZygote("cold", code=ExitCode.FAILED, reason=reason))
        else:
            self._execute()

    def _account_for_ranks(self) -> None:
        unborn, self._starting = self._starting, set()
        orphans, self._pids = self._pids, {}
        for rank in unborn:
            self._tell(FromZygote("refused", rank, reason=_ORPHANED))
        for rank, pid in orphans.items():
            self._adopt(rank, pid)

    def _adopt(self, rank: int, pid: int) -> None:
        """Collect a rank whose warm parent is gone."""
        self._kill_group(pid)

        def ended(status: int) -> None:
            self._tell(FromZygote("ended", rank, pid, status, reason=_ORPHANED))

        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            # Collected already: a moment ago by us, or by the warm parent, who could not tell any more.
            self._reaper.claim(pid, ended, otherwise=signal.SIGKILL)
        else:
            self._reaper.watch(pid, ended)

    def _execute(self) -> None:
        """Start a warm parent as a process of its own."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.pathsep.join(sys.path)
        argv = [sys.executable, "-c", _ZYGOTE, path, "3", self._warmth.warm_up, self._warmth.entry]
        self._zygote = os.posix_spawn(
            sys.executable,
            argv,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)],
            setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGCHLD],
        )
        theirs.close()
        self._line = ours
        self._listen()

    @staticmethod
    def _kill_group(pid: int) -> None:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # it ended by itself, which is as good


def _close(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
