"""States, checkpointers and checkpoints, made with few words."""

from __future__ import annotations

import torch

from rowlock_trainer.checkpoint import Checkpointer


class Log:
    """What a checkpointer said."""

    def __init__(self):
        self.verified = []
        self.notices = []

    @property
    def kinds(self):
        return [notice.kind for notice in self.notices]

    @property
    def words(self):
        return "\n".join(notice.message for notice in self.notices)


def checkpointer(root, *, log=None, keep=2, generation=1, group=None, disk=None, job_uid=""):
    log = log if log is not None else Log()
    return Checkpointer(
        root,
        keep=keep,
        generation=generation,
        group=group,
        on_verified=log.verified.append,
        on_notice=log.notices.append,
        disk=disk,
        job_uid=job_uid,
    )


def state(fill=0.0):
    """A small state of every kind of leaf; all its tensors hold `fill`."""
    return {
        "model": {"weight": torch.full((5, 3), fill), "bias": torch.full((5,), fill, dtype=torch.bfloat16)},
        "optimizer": {
            "state": {"weight": {"step": torch.tensor(fill), "moment": torch.full((5, 3), fill)}},
            "param_groups": [{"lr": fill, "betas": (0.9, 0.999), "foreach": None, "params": ["weight"]}],
        },
        "cursor": torch.full((2,), int(fill), dtype=torch.int64),
        "nothing": torch.empty(0, 4),
    }


def save(root, *steps, generation=1, keep=2):
    """Write checkpoints of `steps`, each filled with its step; return the last one's directory."""
    log = Log()
    saver = checkpointer(root, log=log, generation=generation, keep=keep)
    for step in steps:
        saver.save(step, state(float(step)), {"step": step})
    saver.wait()
    return root / log.verified[-1].name


def load(root, *, log=None, generation=2, into=None):
    """Return what a new generation finds, and the state it is loaded into."""
    into = state() if into is None else into
    return checkpointer(root, log=log, generation=generation).load_newest(into), into


def same(one, other):
    """Whether two nested states are equal bit by bit, kinds included."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    return one == other
