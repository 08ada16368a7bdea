"""How the crew agrees to save or to stop: a vote that is itself a collective.

SIGTERM reaches the ranks of one worker, and the clock of ``everySeconds`` is rank 0's. Yet all ranks must
act after the same step. A collective gives every rank the same answer at the same place of its program, so
agreement needs no argument about who saw what first: after a step, all ranks reduce their wishes by maximum.

A vote costs one small all-reduce (about 0.2 ms for four ranks on two cores), too much for every step of a
small model. So votes are held about five a second, and how many steps lie between two is part of the vote:
rank 0 proposes it from the time it measured, the others propose nothing. With a step longer than the
interval every step is voted on. A wish waits for the next vote: at most the interval and one step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist

#: Time between votes to aim at, in seconds: short beside a grace period of 30, and 0.2 ms of vote in 0.2 s
#: is a cost of 0.1 %.
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

    def due(self, step: int) -> bool:
        """Whether the crew votes after `step`: the same answer on every rank."""
        return step >= self._last_step + self._stride

    def vote(self, step: int, *, stop: bool, save: bool) -> Verdict:
        """Vote after `step`; every rank must.

        Args:
            step: Step just finished.
            stop: Whether this rank wishes to save and end.
            save: Whether this rank wishes to save and go on.

        Returns:
            What any rank wished.

        Raises:
            RuntimeError: A peer is gone.
        """
        proposal = self._propose(step) if self._leader else 0
        ballot = torch.tensor([int(stop), int(save), proposal])
        if self._group is not None:
            dist.all_reduce(ballot, op=dist.ReduceOp.MAX, group=self._group)
        stopping, saving, self._stride = ballot.tolist()
        self._last_step = step
        self._last_time = self._clock()
        return Verdict(stop=bool(stopping), save=bool(saving))

    def _propose(self, step: int) -> int:
        """Return how many steps fit the interval, at most doubling: a first fast step proves little."""
        took = (self._clock() - self._last_time) / max(1, step - self._last_step)
        fitting = int(VOTE_INTERVAL / took) if took > 0 else MAX_STEPS
        return max(1, min(fitting, 2 * self._stride, MAX_STEPS))
