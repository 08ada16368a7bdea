"""How fast the crew is: samples a second over a sliding window."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

#: Length of the window, in seconds: long enough to even out a save or an evaluation, short enough to show
#: within a glance that something changed.
WINDOW_SECONDS = 15.0
#: Least time between two marks, in seconds; keeps the window at some 60 marks however short a step is.
_MARK_SECONDS = 0.25


class Pace:
    """Throughput of the run, from the cursor and a clock.

    Args:
        samples: Cursor at the start.
        clock: Monotonic time, in seconds.
    """

    def __init__(self, samples: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks = deque([(clock(), samples)])

    def samples_per_second(self, samples: int) -> float:
        """Return the throughput up to the cursor `samples`; 0 while no time has passed."""
        now = self._clock()
        while len(self._marks) > 1 and now - self._marks[0][0] > WINDOW_SECONDS:
            self._marks.popleft()
        then, before = self._marks[0]
        if now - self._marks[-1][0] >= _MARK_SECONDS:
            self._marks.append((now, samples))
        return (samples - before) / (now - then) if now > then else 0.0
