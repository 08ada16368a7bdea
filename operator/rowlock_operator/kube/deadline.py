"""The end of a leader's time, kept by the kernel.

A leader that cannot renew its lease must say nothing more, and the case that matters most is the one in which its own
code does not run: the process was stopped, starved or stuck in a long computation while another one took over. A
timer of the event loop would come second then, after whatever the loop finds ready when it wakes. An interval timer
(setitimer) runs on while a process is stopped, its signal is delivered before the process runs on, and Python hands
it to the main thread, where orders and writes are made, before that thread's next call of a function. So at most the
system call that was under way when the process was stopped is finished. It does not run while the whole machine is
suspended; what protects then is what protects against every message that is still on its way, see `election`.
"""

from __future__ import annotations

import logging
import os
import signal
from types import FrameType
from typing import NoReturn

#: Exit code of a process that led and may not any more. Not 1 (a defect), not 2 (wrong usage).
LOST_EXIT_CODE = 3

log = logging.getLogger("rowlock.leader")


class Deadline:
    """Ends this process when its time is over. One per process, from the main thread."""

    def __init__(self) -> None:
        signal.signal(signal.SIGALRM, self._over)

    def set(self, seconds: float) -> None:
        """Let the time end in `seconds` from now, whatever was set before."""
        if seconds <= 0:
            self.end("the lease could not be renewed in time")
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def clear(self) -> None:
        """Let it not end any more: this process leads no longer, and does nothing that only a leader may."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def end(self, why: str) -> NoReturn:
        """End the process at once. No order and no write leaves it after this, and its connections break."""
        try:
            log.critical("no longer the leader: %s; ending at once, training goes on", why)
            logging.shutdown()
        finally:
            # Not sys.exit: that would let tasks run on, and ask launchers and the API server for farewells.
            os._exit(LOST_EXIT_CODE)

    def _over(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.end("the lease could not be renewed in time")
