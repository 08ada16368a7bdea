"""How long launchers of a crew are given to come back, where lines break again and again.

After a silence of all, the first launcher that is back proves nothing against the others yet. But that grace has an
end, however often lines break: else one worker's bad line would keep the job of a dead one waiting for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from rowlock.protocol import HEARTBEAT_SECONDS, PROTOCOL_VERSION, Hello, Order, Report
from rowlock_operator.coordinator.crew import Crew
from rowlock_operator.core.decide import decide
from rowlock_operator.core.incidents import RETURN_SECONDS
from tests.unit.core.build import NOW, later, pod, training_job, world

TICK = 0.5


@dataclass
class Line:
    """A line to a launcher that nothing is read from."""

    offered: list[Order] = field(default_factory=list)

    def offer(self, order: Order) -> None:
        self.offered.append(order)

    def drop(self, reason: str) -> None:
        del reason


class Scene:
    """Two workers whose crew trains: what the coordinator hears of them, and what is decided on it."""

    def __init__(self) -> None:
        self.crew = Crew()
        self._lines: dict[int, Line] = {}
        self._heard: dict[int, datetime] = {}
        for worker in (0, 1):
            self.joins(worker, NOW)

    def joins(self, worker: int, now: datetime) -> None:
        line = self._lines[worker] = Line()
        self.crew.join(self._hello(worker), line, now)
        self.reports(worker, now)

    def reports(self, worker: int, now: datetime) -> None:
        store = "crew-worker-0:4000" if worker == 0 else ""
        self.crew.heard(self._hello(worker), self._lines[worker], Report(1, "running", store=store), now)
        self._heard[worker] = now

    def leaves(self, worker: int) -> None:
        self.crew.left(self._hello(worker), self._lines.pop(worker))

    def blames(self, now: datetime) -> bool:
        """Take the heartbeats that are due, then ask decide() whether somebody is out of the crew."""
        for worker in self._lines:
            if now - self._heard[worker] >= timedelta(seconds=HEARTBEAT_SECONDS):
                self.reports(worker, now)
        self.crew.expire(now)
        decision = decide(training_job(), world(pod(0), pod(1), launchers=self.crew.launchers()), now)
        return bool(decision.status.unsettled)

    @staticmethod
    def _hello(worker: int) -> Hello:
        return Hello(PROTOCOL_VERSION, worker, f"pod-{worker}", f"10.0.0.{worker}")


@pytest.mark.parametrize(
    ("up", "down"),
    [
        pytest.param(10.0, 0.5, id="cut-every-ten-seconds-and-back-at-once"),
        pytest.param(4.0, 6.0, id="away-for-most-of-the-time"),
        pytest.param(12.5, 8.0, id="away-for-longer-than-is-brief"),
    ],
)
def test_a_launcher_whose_line_breaks_again_and_again_does_not_shield_a_dead_worker_for_ever(
    up: float, down: float
) -> None:
    scene = Scene()
    scene.leaves(1)  # for good
    seconds, turn, there = 0.0, up, True
    while not scene.blames(later(seconds)):
        seconds += TICK
        assert seconds < 120
        if seconds >= turn:
            there = not there
            turn = seconds + (up if there else down)
            scene.joins(0, later(seconds)) if there else scene.leaves(0)
    assert there


def test_after_each_silence_of_all_the_others_get_their_whole_time_again() -> None:
    scene = Scene()
    for outage in (100.0, 300.0):
        for worker in (0, 1):
            scene.leaves(worker)
        scene.joins(0, later(outage))
        last = outage + RETURN_SECONDS - TICK
        for tick in range(int((last - outage) / TICK)):
            assert not scene.blames(later(outage + tick * TICK))
        scene.joins(1, later(last))
        for tick in range(100):
            assert not scene.blames(later(last + tick * TICK))
