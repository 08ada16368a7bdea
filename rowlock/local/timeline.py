"""What happened when: the record of a run that a table and a picture are made from."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rowlock_operator.core.model import Launcher, Pod


@dataclass
class Recovery:
    """One loss and what it took to go on."""

    generation: int
    #: Unix time at which the loss was seen, in seconds.
    lost_at: float
    #: Last step known to be finished before it.
    step_reached: int
    resumed_from: int = -1
    #: Unix time at which the first new step was finished.
    stepped_at: float | None = None

    @property
    def seconds(self) -> float | None:
        """Seconds from the loss to the first new step; None while it is not over."""
        return None if self.stepped_at is None else self.stepped_at - self.lost_at

    @property
    def steps_lost(self) -> int:
        """Steps that had to be done again."""
        return max(0, self.step_reached - self.resumed_from)


@dataclass
class Timeline:
    """Follows a run by what is observed of it."""

    recoveries: list[Recovery] = field(default_factory=list)
    _step: int = 0
    _lost: set[str] = field(default_factory=set)

    def look(self, generation: int, pods: tuple[Pod, ...], launchers: tuple[Launcher, ...]) -> None:
        """Take in one observation."""
        self._see_losses(generation, pods, launchers)
        for launcher in launchers:
            report = launcher.report
            if report.progress is None:
                continue
            open_one = self._open()
            if open_one is None or report.generation <= open_one.generation:
                if open_one is not None:
                    open_one.step_reached = max(open_one.step_reached, report.progress.step)
                self._step = max(self._step, report.progress.step)
            elif report.resumed_from >= 0 and report.progress.step > report.resumed_from:
                open_one.resumed_from = report.resumed_from
                open_one.stepped_at = report.progress.time
                self._step = report.progress.step

    def _see_losses(self, generation: int, pods: tuple[Pod, ...], launchers: tuple[Launcher, ...]) -> None:
        now = time.time()
        ended = {pod.uid for pod in pods if pod.phase == "Failed" and pod.deleting_since is None}
        ends = {
            f"{launcher.pod_uid}/{launcher.report.generation}/{end.rank}": end
            for launcher in launchers
            for end in launcher.report.exits
        }
        fresh = (ended | set(ends)) - self._lost
        self._lost |= fresh
        if not fresh:
            return
        steps = [self._step, *(ends[name].step for name in fresh if name in ends)]
        current = self._open()
        if current is None:
            self.recoveries.append(Recovery(generation, now, max(steps)))
        else:
            current.step_reached = max(current.step_reached, *steps)

    def _open(self) -> Recovery | None:
        if self.recoveries and self.recoveries[-1].stepped_at is None:
            return self.recoveries[-1]
        return None
