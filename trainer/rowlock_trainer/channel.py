"""The wire between a launcher and each of its ranks: one Unix socket a rank, JSON lines, whole states.

A rank says its whole `RankState` each time; the launcher says its whole `RankCommand`. As between
coordinator and launcher, nothing depends on a single message. The rank's side is plain blocking sockets
and one reader thread, because a rank's main thread is busy training; the launcher's side is asyncio.
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, replace
from typing import Any, Literal

from rowlock.protocol import (
    NOTICE_CHARS,
    CheckpointNote,
    Notice,
    Progress,
    RankExit,
    WorkerConfig,
    check_count,
    decode,
    encode,
    shortened,
)

#: Least time between two messages that only move the step or the progress, in seconds.
PROGRESS_INTERVAL = 0.1
#: Notices a rank keeps saying; older ones are long told.
NOTICES_KEPT = 20


@dataclass(frozen=True)
class RankSetup:
    """All that a rank is told when it is started."""

    worker: WorkerConfig
    generation: int
    rank: int
    local_rank: int
    world_size: int
    #: Address of this worker as others reach it; rank 0 opens the store here.
    address: str
    #: Address of the launcher's Unix socket: a path, or a name in the abstract namespace after a zero byte.
    socket: str
    #: Fault to inject, see rowlock.protocol.ENV_FAULT.
    fault: str = ""
    #: Process that a fault which ends the whole worker has to end too; 0: only the rank's own group.
    launcher_pid: int = 0


@dataclass(frozen=True)
class RankState:
    """The whole state of one rank. It is ``ready`` once it has nothing left to do but wait for the store.

    Raises:
        ValueError: A number is out of range.
    """

    generation: int
    rank: int
    phase: Literal["starting", "ready", "running", "done", "failed"] = "starting"
    #: ``host:port`` of the store, rank 0 only.
    store: str = ""
    #: Last step finished, -1 before any is known.
    step: int = -1
    progress: Progress | None = None
    checkpoint: CheckpointNote | None = None
    resumed_from: int = -1
    notices: tuple[Notice, ...] = ()
    #: Why it is about to end, when that is not by finishing.
    failure: RankExit | None = None

    def __post_init__(self) -> None:
        check_count("generation", self.generation, 0)
        check_count("rank", self.rank, 0)
        check_count("step", self.step, -1)
        check_count("resumed_from", self.resumed_from, -1)


@dataclass(frozen=True)
class RankCommand:
    """The launcher's whole wish: the store to join (empty: wait), and whether to save and end."""

    store: str = ""
    save: bool = False


class RankChannel:
    """A rank's end of the wire. Use from the training thread; a daemon thread reads.

    When the launcher goes away the reader thread sets `orphaned`; the rank then ends, because nobody
    would ever hear of what it does.
    """

    def __init__(self, setup: RankSetup) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(setup.socket)  # Linux takes an abstract name as it takes a path
        self._state = RankState(setup.generation, setup.rank)
        self._lock = threading.Lock()
        self._last_sent = 0.0
        self._changed = threading.Condition()
        self._command = RankCommand()
        self.orphaned = False
        threading.Thread(target=self._read, name="rowlock-channel", daemon=True).start()
        self._send()

    @property
    def command(self) -> RankCommand:
        """The launcher's newest wish."""
        return self._command

    @property
    def state(self) -> RankState:
        """What this rank last said."""
        return self._state

    def update(self, *, urgent: bool = True, **changes: Any) -> None:
        """Change the state and tell the launcher; not `urgent` changes wait their turn."""
        with self._lock:
            self._state = replace(self._state, **changes)
            if urgent or time.monotonic() - self._last_sent >= PROGRESS_INTERVAL:
                self._send()

    def notice(self, notice: Notice) -> None:
        """Add something that a person should see; a message that is too long to travel is cut."""
        short = replace(notice, message=shortened(notice.message, NOTICE_CHARS))
        self.update(notices=(*self._state.notices, short)[-NOTICES_KEPT:])

    def wait_for_store(self) -> str:
        """Block until the launcher names the store; return ``host:port``, or "" when told to save and end."""
        with self._changed:
            self._changed.wait_for(lambda: self._command.store or self._command.save or self.orphaned)
        if self.orphaned:
            raise ConnectionError("the launcher of this rank is gone")
        return "" if self._command.save else self._command.store

    def _send(self) -> None:
        self._last_sent = time.monotonic()
        self._socket.sendall(encode(self._state).encode() + b"\n")

    def _read(self) -> None:
        try:
            for line in self._socket.makefile("rb"):
                self._take(decode(line, RankCommand))
        except OSError:
            # The socket was reset under the reader: the launcher died. Falls through to orphaned.
            self._take(self._command)
        finally:
            with self._changed:
                self.orphaned = True
                self._changed.notify_all()

    def _take(self, command: RankCommand) -> None:
        with self._changed:
            self._command = command
            self._changed.notify_all()
