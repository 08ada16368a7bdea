"""One rank as its launcher sees it, and its ending in words.

What a rank said of its own end (`RankState.failure`) tells more than how the process ended: a lost peer
often shows as an abort in some library's destructor a moment later. So the rank's word goes first and the
process's way of ending is added to it; without a word from the rank, the process's ending and the last
lines it wrote must do.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import dataclass, field, replace

from rowlock.protocol import TRACEBACK_CHARS, ExitCode, RankExit
from rowlock_trainer.channel import RankState
from rowlock_trainer.launcher import process
from rowlock_trainer.launcher.output import RankOutput
from rowlock_trainer.launcher.wire import FromZygote

#: Codes a shell gives when it could not run what it was told to.
_SHELL_WORDS = {
    ExitCode.NOT_EXECUTABLE: "a command it called could not be executed",
    ExitCode.NOT_FOUND: "a command it called was not found",
}


@dataclass
class Rank:
    """A rank of the current generation."""

    number: int
    local: int
    state: RankState
    output: tuple[RankOutput, ...] = ()
    #: 0 before it was forked.
    pid: int = 0
    ended: bool = False
    #: How it ended; None while it has not, or when it ended with 0.
    exit: RankExit | None = None
    #: Why the launcher killed it, for its ending in words.
    killed_because: str = ""
    #: Out-of-memory kills of the container when it was started.
    memory_kills: int = field(default_factory=process.out_of_memory_kills)

    @property
    def done(self) -> bool:
        """Whether it ended with 0."""
        return self.ended and self.exit is None

    @property
    def tail(self) -> str:
        """Last lines of its standard error."""
        return self.output[1].tail if self.output else ""


def describe_exit(rank: Rank, fact: FromZygote, command: tuple[str, ...]) -> RankExit | None:
    """Return how a rank ended; None when it finished.

    Args:
        rank: The rank; its state holds what it said last.
        fact: What the warm parent told of its ending.
        command: The command it executed; empty for the built-in trainer.
    """
    said = rank.state.failure
    if fact.exec_errno:
        return _not_executed(rank, fact.exec_errno, command)
    code = process.exit_code(fact.status)
    if said is not None:
        reason = said.reason if code in (said.code, ExitCode.DONE) else f"{said.reason} (then {_words(rank, fact)})"
        return replace(said, reason=reason, traceback=said.traceback[-TRACEBACK_CHARS:])
    if code == ExitCode.DONE:
        return None
    reason = _words(rank, fact) if code != ExitCode.SAVED else "saved and ended, as ordered"
    return exit_of(rank, code, reason, "" if code == ExitCode.SAVED else rank.tail)


def exit_of(rank: Rank, code: int, reason: str, traceback: str = "") -> RankExit:
    """Return an ending of this rank now."""
    return RankExit(rank.number, code, rank.state.step, reason, time.time(), traceback)


def _words(rank: Rank, fact: FromZygote) -> str:
    words = process.ending(fact.status)
    code = process.exit_code(fact.status)
    if code in _SHELL_WORDS:
        words += f" ({_SHELL_WORDS[ExitCode(code)]})"
    if code == 128 + signal.SIGKILL and process.out_of_memory_kills() > rank.memory_kills:
        words += ": out of memory (the container reached its limit; raise resources.limits.memory)"
    for why in (rank.killed_because, fact.reason):
        if why:
            words += f": {why}"
    return words


def _not_executed(rank: Rank, number: int, command: tuple[str, ...]) -> RankExit:
    name = command[0]
    if number == errno.ENOENT:
        where = "in the image" if "/" in name else f"in the image's PATH ({os.environ.get('PATH', '')})"
        reason = f"command {name!r} was not found {where}, or the interpreter its first line names was not"
        return exit_of(rank, ExitCode.NOT_FOUND, reason)
    reason = f"command {name!r} cannot be executed: {os.strerror(number)}"
    if number == errno.EACCES:
        reason += "; is its executable bit set?"
    return exit_of(rank, ExitCode.NOT_EXECUTABLE, reason)
