"""One process lives through generations: it drops its groups and builds the next ones."""

from __future__ import annotations

import json
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed import FileStore

from rowlock.protocol import OptimizerConfig
from rowlock_trainer.engine.builtin import build_task
from rowlock_trainer.engine.device import make_repeatable
from rowlock_trainer.engine.failure import is_peer_lost
from rowlock_trainer.engine.groups import ProcessGroups, sum_over
from rowlock_trainer.engine.learner import Learner
from rowlock_trainer.parallel.ddp import replicate, settle
from tests.trainer.engine.crew import DEADLINE, WarmParent, together, trainer

CPU = torch.device("cpu")
CONFIG = trainer(global_batch_size=24, steps=1000, optimizer=OptimizerConfig("sgd", 0.1))


def build(options: dict[str, Any], generation: int, world_size: int) -> ProcessGroups:
    store = FileStore(f"{options['folder']}/store-{generation}", world_size)
    return ProcessGroups.build(
        store, options["rank"], world_size, CPU, timedelta(seconds=DEADLINE), generation=generation
    )


def learn(learner: Learner, groups: ProcessGroups, steps: range) -> None:
    model = replicate(learner.model, groups.data, CPU)
    place = {"rank": groups.rank, "world_size": groups.world_size}
    settle(model, lambda: learner.first_loss(model, **place))
    for step in steps:
        learner.take_step(model, step, (step - 1) * CONFIG.global_batch_size, **place)


def two_generations(options: dict[str, Any]) -> int:
    """Three ranks, then two of them, in the same processes."""
    make_repeatable(1)
    learner = Learner.build(CONFIG, build_task(CONFIG), CPU)
    groups = build(options, 1, 3)
    learn(learner, groups, range(1, 6))
    groups.drop()
    assert not dist.is_initialized()
    if options["rank"] < 2:
        groups = build(options, 2, 2)
        learn(learner, groups, range(6, 11))
        groups.drop()
    return tell(options, learner)


def one_alone(options: dict[str, Any]) -> int:
    make_repeatable(1)
    learner = Learner.build(CONFIG, build_task(CONFIG), CPU)
    learn(learner, ProcessGroups(0, 1), range(1, 11))
    return tell(options, learner)


def survivors_of_a_kill(options: dict[str, Any]) -> int:
    """Rank 2 is killed in the middle of a step; the other two go on with each other."""
    learner = Learner.build(CONFIG, build_task(CONFIG), CPU)
    groups = build(options, 1, 3)
    learn(learner, groups, range(1, 3))
    if options["rank"] == 2:
        Path(options["result"]).write_text("null")
        os.kill(os.getpid(), signal.SIGKILL)
    with pytest.raises(RuntimeError) as caught:
        learn(learner, groups, range(3, 1000))
    assert is_peer_lost(caught.value), caught.value
    groups.drop()
    groups = build(options, 2, 2)
    (ranks,) = sum_over(groups.control, [1.0])
    groups.drop()
    Path(options["result"]).write_text(json.dumps(ranks))
    return 0


def tell(options: dict[str, Any], learner: Learner) -> int:
    flat = torch.cat([parameter.detach().flatten() for parameter in learner.model.parameters()])
    Path(options["result"]).write_text(json.dumps(flat.tolist()))
    return 0


def test_a_process_goes_on_in_a_smaller_crew_as_if_it_had_been_so_all_along(parent: WarmParent, tmp_path: Path) -> None:
    first, second, left = together(parent, tmp_path, f"{__name__}:two_generations", 3)
    (alone,) = together(parent, tmp_path, f"{__name__}:one_alone", 1)
    assert first == second
    assert first != left
    torch.testing.assert_close(torch.tensor(first), torch.tensor(alone), rtol=1e-4, atol=1e-6)


def test_survivors_of_a_killed_rank_build_the_next_generation_in_the_same_process(
    parent: WarmParent, tmp_path: Path
) -> None:
    results = together(parent, tmp_path, f"{__name__}:survivors_of_a_kill", 3, codes=[0, 0, -signal.SIGKILL])
    assert results == [2.0, 2.0, None]


def test_a_crew_of_one_has_no_groups_and_sums_alone() -> None:
    groups = ProcessGroups.build(dist.HashStore(), 0, 1, CPU)  # type: ignore[attr-defined]
    assert (groups.data, groups.control, groups.checkpoint) == (None, None, None)
    assert sum_over(groups.control, [2.5]) == [2.5]
    groups.drop()
