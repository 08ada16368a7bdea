"""The trap that `settle` is there for, and that it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from rowlock.protocol import ModelConfig
from rowlock_trainer.engine.builtin import build_task
from rowlock_trainer.engine.device import make_repeatable
from rowlock_trainer.engine.learner import Learner
from rowlock_trainer.parallel.ddp import gradients, replicate, settle
from tests.trainer.engine.crew import WarmParent, together, trainer
from tests.trainer.engine.test_groups import CPU, build

CONFIG = trainer(model=ModelConfig("mlp", hidden=(64, 64, 64)))
#: Small enough that this model's 50 KiB of gradients take several buckets.
BUCKET_CAP_MB = 0.02


def three_gradients_of_one_batch(options: dict[str, Any]) -> int:
    """Gradients of the same loss at the same weights, three times over, nothing else in between."""
    make_repeatable(1)
    learner = Learner.build(CONFIG, build_task(CONFIG), CPU)
    groups = build(options, 1, options["world_size"])
    model = replicate(learner.model, groups.data, CPU, bucket_cap_mb=BUCKET_CAP_MB)

    def forward() -> torch.Tensor:
        return learner.first_loss(model, rank=groups.rank, world_size=groups.world_size)

    if options["settled"]:
        settle(model, forward)
    told = []
    for _ in range(3):
        with gradients(model, synchronise=True):
            forward().backward()  # type: ignore[no-untyped-call]
        told.append(torch.cat([p.grad.flatten() for p in learner.model.parameters() if p.grad is not None]).tolist())
        learner.model.zero_grad(set_to_none=True)
    Path(options["result"]).write_text(json.dumps(told))
    groups.drop()
    return 0


def test_the_first_step_of_an_unsettled_model_rounds_otherwise_than_the_rest(
    parent: WarmParent, tmp_path: Path
) -> None:
    entry = f"{__name__}:three_gradients_of_one_batch"
    (first, second, third), *_ = together(parent, tmp_path, entry, 4, settled=False)
    assert second == third
    assert first != second
    torch.testing.assert_close(torch.tensor(first), torch.tensor(second))


def test_all_steps_of_a_settled_model_are_alike_on_every_rank(parent: WarmParent, tmp_path: Path) -> None:
    entry = f"{__name__}:three_gradients_of_one_batch"
    ranks = together(parent, tmp_path, entry, 4, settled=True)
    assert all(gradient == ranks[0][0] for rank in ranks for gradient in rank)
    (_, unsettled, _), *_ = together(parent, tmp_path, entry, 4, settled=False)
    assert ranks[0][0] == unsettled
