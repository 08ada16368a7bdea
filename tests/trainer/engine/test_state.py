"""What a checkpoint holds of a run, and what it fits."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from rowlock.protocol import ModelConfig, OptimizerConfig
from rowlock_trainer.engine.failure import ConfigError
from rowlock_trainer.engine.optimizer import build_optimizer
from rowlock_trainer.engine.state import Position, check_fit, facts, position_of, seed_microbatch, tensors_of
from tests.trainer.engine.crew import trainer

CONFIG = trainer()
CPU = torch.device("cpu")


def facts_of_a_run() -> dict[str, object]:
    """As they come back from a manifest."""
    saved: dict[str, object] = json.loads(json.dumps(facts(CONFIG, Position(10, 320, 0.5), epoch=0.2, world_size=4)))
    return saved


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"steps": 99},
        {"global_batch_size": 64},
        {"log_every_steps": 1},
        {"model": replace(CONFIG.model, dropout=0.5, layers=9)},
        {"optimizer": OptimizerConfig("adamw", 1.0)},
    ],
    ids=str,
)
def test_a_checkpoint_fits_a_job_that_changed_what_may_change(change: dict[str, object]) -> None:
    check_fit(trainer(**change), facts_of_a_run(), "step-10")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 7}, "trainer.seed 0, the job says 7"),
        ({"data": "python-text"}, 'trainer.data "digits", the job says "python-text"'),
        ({"model": ModelConfig("mlp", hidden=(1,))}, "trainer.model"),
        ({"optimizer": OptimizerConfig("sgd", 1.0)}, 'trainer.optimizer "adamw", the job says "sgd"'),
    ],
    ids=str,
)
def test_a_checkpoint_of_another_run_is_refused_by_the_field_that_differs(
    change: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=f"checkpoint step-10 was made with {words}"):
        check_fit(trainer(**change), facts_of_a_run(), "step-10")


def test_the_position_comes_back_from_the_facts() -> None:
    assert position_of(10, facts_of_a_run(), "step-10") == Position(10, 320, 0.5)


def test_facts_without_a_cursor_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="checkpoint step-10 says samples None"):
        position_of(10, {}, "step-10")


@pytest.mark.parametrize(
    ("optimizer", "state"),
    [
        (OptimizerConfig("adamw", 0.1), {"step", "exp_avg", "exp_avg_sq"}),
        (OptimizerConfig("sgd", 0.1, momentum=0.9), {"momentum_buffer"}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_layout_of_the_state_is_there_before_the_first_step_and_stays(
    optimizer: OptimizerConfig, state: set[str]
) -> None:
    model = nn.Linear(3, 2)
    built = build_optimizer(optimizer, model)
    before = tensors_of(model, built)
    model(torch.ones(1, 3)).sum().backward()
    built.step()
    after = tensors_of(model, built)
    assert set(before["optimizer"]) == {"weight", "bias"}
    assert all(set(entry) == state for entry in before["optimizer"].values())
    for name, entry in before["optimizer"].items():
        for key, tensor in entry.items():
            assert after["optimizer"][name][key] is tensor


@pytest.mark.parametrize("config", [OptimizerConfig("adamw", 0.1), OptimizerConfig("sgd", 0.1, momentum=0.9)])
def test_state_made_beforehand_takes_the_steps_that_torch_takes(config: OptimizerConfig) -> None:
    torch.manual_seed(0)
    ours = nn.Linear(16, 16)
    theirs = nn.Linear(16, 16)
    theirs.load_state_dict(ours.state_dict())
    kinds = {"sgd": (torch.optim.SGD, {"momentum": 0.9}), "adamw": (torch.optim.AdamW, {"weight_decay": 0.0})}
    kind, options = kinds[config.name]
    optimizers = [build_optimizer(config, ours), kind(theirs.parameters(), lr=0.1, fused=True, **options)]
    for _ in range(5):
        inputs = torch.randn(8, 16)
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            model(inputs).pow(2).mean().backward()
            optimizer.step()
    assert torch.equal(ours.weight, theirs.weight)


def test_sgd_without_momentum_has_no_state() -> None:
    model = nn.Linear(3, 2)
    assert tensors_of(model, build_optimizer(OptimizerConfig("sgd", 0.1), model))["optimizer"] == {}


def test_random_numbers_depend_on_seed_step_rank_and_microbatch_only() -> None:
    def draw(seed: int = 0, step: int = 1, rank: int = 0, micro: int = 0) -> float:
        seed_microbatch(trainer(seed=seed), CPU, step=step, rank=rank, micro=micro)
        return float(torch.rand(()))

    assert draw() == draw()
    assert len({draw(), draw(seed=1), draw(step=2), draw(rank=1), draw(micro=1)}) == 5
