"""What happened when: the record of a run that a table and a picture are made from.

How far the crew was when it lost a worker is known exactly when a surviving rank says so as it ends, or when
the loss was a kill asked for at a step: the step after it cannot be finished without the worker. Otherwise the
newest step that was reported or logged is a lower bound, and is told as one. The first step after it is always
logged, with its time; reports come later, because they wait their turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rowlock.local.history import History
from rowlock.protocol import ExitCode, RankExit
from rowlock_operator.core.model import Launcher, Pod

#: Exit codes above this are signals: such a rank did not speak for itself, and its step is the last one heard.
_SIGNALLED = 128


@dataclass
class Recovery:
    """One loss and what it took to go on."""

    generation: int
    #: Unix time at which the loss was seen, in seconds.
    lost_at: float
    #: Last step known to be finished before it.
    step_reached: int
    #: Whether `step_reached` is exact; else it is a lower bound.
    exact: bool = False
    resumed_from: int = -1
    #: Unix time at which the first new step was finished.
    stepped_at: float | None = None

    @property
    def seconds(self) -> float | None:
        """Seconds from the loss to the first new step; None while it is not over."""
        return None if self.stepped_at is None else self.stepped_at - self.lost_at

    @property
    def steps_lost(self) -> int:
        """Steps that had to be done again; at least so many where `exact` does not hold."""
        return max(0, self.step_reached - self.resumed_from) if self.resumed_from >= 0 else 0

    @property
    def words(self) -> str:
        """The steps lost as a person says them."""
        return str(self.steps_lost) if self.exact else f"at least {self.steps_lost}"

    def reached(self, step: int, *, exact: bool) -> None:
        """Take in that the crew had finished `step` before the loss."""
        self.step_reached = max(self.step_reached, step)
        self.exact = self.exact or exact


@dataclass
class Timeline:
    """Follows a run by what is observed of it.

    Args:
        history: Returns what was logged of a generation.
    """

    history: Callable[[int], History] = History.empty
    recoveries: list[Recovery] = field(default_factory=list)
    _step: int = 0
    _lost: set[str] = field(default_factory=set)

    def look(
        self,
        generation: int,
        pods: tuple[Pod, ...],
        launchers: tuple[Launcher, ...],
        struck: Mapping[str, int] | None = None,
    ) -> None:
        """Take in one observation.

        Args:
            generation: The crew's current generation.
            pods: Pods that exist.
            launchers: What their launchers say.
            struck: Kills that have struck since the last look: the step each struck after, by the pod's UID.
        """
        self._see_losses(generation, pods, launchers, struck or {})
        for launcher in launchers:
            report = launcher.report
            if report.progress is None:
                continue
            open_one = self._open()
            if open_one is None:
                self._step = max(self._step, report.progress.step)
            elif report.generation <= open_one.generation:
                open_one.reached(report.progress.step, exact=False)
            elif report.resumed_from >= 0 and report.progress.step > report.resumed_from:
                self._step = report.progress.step
                self._close(open_one, report.generation, report.resumed_from, report.progress.time)

    def _close(self, recovery: Recovery, generation: int, resumed_from: int, stepped_at: float) -> None:
        recovery.reached(max(self.history(recovery.generation).steps, default=0), exact=False)
        recovery.resumed_from = resumed_from
        recovery.stepped_at = min([stepped_at, *self.history(generation).times])

    def _see_losses(
        self,
        generation: int,
        pods: tuple[Pod, ...],
        launchers: tuple[Launcher, ...],
        struck: Mapping[str, int],
    ) -> None:
        ended = {
            pod.uid
            for pod in pods
            if pod.phase == "Failed" and pod.deleting_since is None and pod.exit_code != ExitCode.SAVED
        }
        exits = {
            f"{launcher.pod_uid}/{launcher.report.generation}/{end.rank}": (launcher.report.generation, end)
            for launcher in launchers
            for end in launcher.report.exits
            if end.code != ExitCode.SAVED and not launcher.report.leaving
        }
        fresh = (ended | set(exits)) - self._lost
        self._lost |= fresh
        current = self._open()
        if current is None:
            # Ranks of an earlier generation were ended to make way for this one: they tell of a loss, and are none.
            if not any(name in ended or exits[name][0] == generation for name in fresh):
                return
            current = Recovery(generation, time.time(), self._step)
            self.recoveries.append(current)
        for uid in fresh & set(struck):
            current.reached(struck[uid], exact=True)
        for name in fresh & set(exits):
            end = exits[name][1]
            current.reached(end.step, exact=_speaks_for_itself(end))

    def _open(self) -> Recovery | None:
        if self.recoveries and self.recoveries[-1].stepped_at is None:
            return self.recoveries[-1]
        return None


def _speaks_for_itself(end: RankExit) -> bool:
    return end.step >= 0 and end.code < _SIGNALLED
