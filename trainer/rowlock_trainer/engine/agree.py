"""How the crew agrees to save or to stop: a vote that is itself a collective.

SIGTERM reaches the ranks of one worker, and the clock of ``everySeconds`` is rank 0's. Yet all ranks must
act after the same step. A collective gives every rank the same answer at the same place of its program, so
agreement needs no argument about who saw what first: after a step, all ranks reduce their wishes by maximum.

A vote is one small all-reduce, and waiting for it would make the ranks of a fast model meet once more than the
gradients already do. So votes on short steps are opened before the step and counted after it, by when they have
long been decided; with steps as long as the interval, when another step of delay would matter to a grace period,
they are opened and counted after it. How many steps lie between two votes is part of the vote: rank 0 proposes
it from the time it measured, the others propose nothing. A wish waits for the next vote: while steps keep their
pace, and besides evaluations, at most the interval and two short steps, or one long one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist

#: Time between votes to aim at, in seconds: short beside a grace period of 30, and long beside a vote of 0.2 ms.
VOTE_INTERVAL = 0.2
#: Most steps between two votes, so that one mismeasured step cannot put the next vote far away.
MAX_STEPS = 1000


@dataclass(frozen=True)
class Verdict:
    """What the crew decided after a step."""

    #: Save, and end.
    stop: bool = False
    #: Save, and go on.
    save: bool = False


class Agreement:
    """This rank's voice in the crew's votes.

    Args:
        group: CPU group of all ranks; None for a crew of one.
        leader: Whether this rank, and no other, proposes when the next vote is. It is rank 0.
        step: Step the crew starts from, the same on every rank.
        clock: Monotonic time, in seconds.
    """

    def __init__(
        self,
        group: dist.ProcessGroup | None,
        *,
        leader: bool,
        step: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._group = group
        self._leader = leader
        self._clock = clock
        self._last_step = step
        self._last_time = clock()
        self._stride = 1
        self._ballot: torch.Tensor | None = None
        self._work: dist.Work | None = None

    def due(self, step: int) -> bool:
        """Whether the crew votes after `step`: the same answer on every rank."""
        return step >= self._last_step + self._stride

    def before(self, step: int, *, stop: bool, save: bool) -> None:
        """Open the vote on `step`, if it is one that is opened early; every rank must call it before the step.

        Args:
            step: Step about to be taken.
            stop: Whether this rank wishes to save and end.
            save: Whether this rank wishes to save and go on.

        Raises:
            RuntimeError: A peer is gone.
        """
        if self.due(step) and self._stride > 1:
            self._open(step - 1, stop=stop, save=save)

    def after(self, step: int, *, stop: bool, save: bool) -> Verdict:
        """Count the vote on `step`, if there is one; every rank must call it after the step.

        Args:
            step: Step just finished.
            stop: Whether this rank wishes to save and end.
            save: Whether this rank wishes to save and go on.

        Returns:
            What any rank wished; nothing when there was no vote.

        Raises:
            RuntimeError: A peer is gone.
        """
        if not self.due(step):
            return Verdict()
        if self._ballot is None:
            self._open(step, stop=stop, save=save)
        if self._work is not None:
            self._work.wait()
        if self._ballot is None:
            raise AssertionError("a vote that was opened has a ballot")
        stopping, saving, self._stride = self._ballot.tolist()
        self._ballot, self._work = None, None
        self._last_step = step
        self._last_time = self._clock()
        return Verdict(stop=bool(stopping), save=bool(saving))

    def _open(self, finished: int, *, stop: bool, save: bool) -> None:
        proposal = self._propose(finished) if self._leader else 0
        self._ballot = torch.tensor([int(stop), int(save), proposal])
        if self._group is not None:
            self._work = dist.all_reduce(self._ballot, op=dist.ReduceOp.MAX, group=self._group, async_op=True)

    def _propose(self, finished: int) -> int:
        """Return how many steps fit the interval, at most doubling: a first fast step proves little."""
        took = (self._clock() - self._last_time) / max(1, finished - self._last_step)
        fitting = int(VOTE_INTERVAL / took) if took > 0 else MAX_STEPS
        return max(1, min(fitting, 2 * self._stride, MAX_STEPS))
