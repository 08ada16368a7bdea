"""Evaluation on held-out data, each rank a share of it."""

from __future__ import annotations

import torch

from rowlock_trainer.engine.groups import ProcessGroups, sum_over
from rowlock_trainer.engine.learner import Learner


def evaluate(learner: Learner, groups: ProcessGroups) -> dict[str, float]:
    """Return the metrics over all held-out samples. Collective; changes nothing of the training state.

    Raises:
        RuntimeError: A peer is gone.
    """
    share = range(groups.rank, learner.task.held_out, groups.world_size)
    learner.model.eval()
    with torch.no_grad():
        sums = learner.task.evaluate(learner.model, share, learner.device)
    learner.model.train()
    names = sorted(sums)
    totals = sum_over(groups.control, [sums[name] for name in names])
    return learner.task.metrics(dict(zip(names, totals, strict=True)))
