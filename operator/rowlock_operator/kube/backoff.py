"""How long to wait before another try: growing, jittered, bounded."""

from __future__ import annotations

import random
from collections.abc import Iterator

#: First delay, in seconds: a conflict or a dropped connection is over in that time.
FIRST_DELAY = 0.1
#: Longest delay, in seconds: an API server that was away for an hour is used again within a minute.
LONGEST_DELAY = 60.0


def delay_after(failures: int, draw: random.Random | None = None) -> float:
    """Return the delay after this many failures in a row, in seconds.

    "Equal jitter": half of the exponential delay is fixed, half is drawn, so that many keys that failed
    together do not come back together (Brooker, "Exponential Backoff And Jitter", AWS, 2015).
    """
    # 2**10 is beyond LONGEST_DELAY already; larger powers would only overflow.
    whole = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(max(failures, 1) - 1, 10))
    share: float = (draw or random).random()
    return whole / 2 + whole / 2 * share


class EndlessBackoffs:
    """Delays for a client that may never give up: every iteration starts anew and does not end."""

    def __iter__(self) -> Iterator[float]:
        failures = 0
        while True:
            failures += 1
            yield delay_after(failures)
