"""Reaps every child of the launcher, its own and those it inherits.

As process 1 (and as a subreaper outside a container) the launcher becomes the parent of whatever its
descendants leave behind; nobody else would collect them.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import OrderedDict
from collections.abc import Callable

#: Endings of processes nobody watched that are remembered, for a watcher that comes a moment late.
_UNCLAIMED = 256


class Reaper:
    """Calls back with the wait status of watched children; collects all others in silence."""

    def __init__(self) -> None:
        self._watched: dict[int, Callable[[int], None]] = {}
        self._unclaimed: OrderedDict[int, int] = OrderedDict()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to reap on this loop, which must be the main thread's."""
        loop.add_signal_handler(signal.SIGCHLD, self.reap)
        self.reap()

    def watch(self, pid: int, ended: Callable[[int], None]) -> None:
        """Call `ended` with the wait status of `pid`, at once if it has ended lately."""
        status = self._unclaimed.pop(pid, None)
        if status is None:
            self._watched[pid] = ended
        else:
            ended(status)

    def claim(self, pid: int, ended: Callable[[int], None], otherwise: int) -> None:
        """Call `ended` with the status of a child that has been reaped, `otherwise` if none is remembered."""
        ended(self._unclaimed.pop(pid, otherwise))

    def forget(self, pid: int) -> None:
        """Drop what is remembered of an earlier process with the number `pid`."""
        self._unclaimed.pop(pid, None)

    def reap(self) -> None:
        """Collect all children that have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            ended = self._watched.pop(pid, None)
            if ended is not None:
                ended(status)
                continue
            self._unclaimed[pid] = status
            while len(self._unclaimed) > _UNCLAIMED:
                self._unclaimed.popitem(last=False)
