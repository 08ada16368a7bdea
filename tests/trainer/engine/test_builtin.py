"""The built-in tasks build the model that the job describes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from rowlock.protocol import ModelConfig, OptimizerConfig, ScheduleConfig, TrainerConfig
from rowlock_trainer.engine.builtin import build_task
from rowlock_trainer.engine.state import seed_microbatch

#: Of each model every option, with another value than the default.
OPTIONS = {
    "mlp": {"hidden": (8,), "dropout": 0.5},
    "cnn": {"channels": (4,), "dropout": 0.5},
    "gpt": {"layers": 1, "heads": 2, "width": 32, "context": 32, "dropout": 0.5},
}
EACH = [(name, option, value) for name, options in OPTIONS.items() for option, value in options.items()]


def job(model: ModelConfig) -> TrainerConfig:
    data = "python-text" if model.name == "gpt" else "digits"
    return TrainerConfig(model, data, 8, 10, OptimizerConfig("sgd", 0.1), ScheduleConfig(), device="cpu")


def first_loss(model: ModelConfig) -> float:
    """Loss of the first step, everything drawn from the job's seed as in training."""
    config = job(model)
    task = build_task(config)
    torch.manual_seed(config.seed)
    built: nn.Module = task.build_model()
    seed_microbatch(config, torch.device("cpu"), step=1, rank=0, micro=0)
    return float(task.loss(built, task.train_batch(torch.arange(4).numpy())).detach())


@pytest.mark.parametrize(("name", "option", "value"), EACH, ids=[f"{name}.{option}" for name, option, _ in EACH])
def test_every_option_of_a_model_changes_what_it_computes(name: str, option: str, value: object) -> None:
    plain = ModelConfig(name)
    changed = replace(plain, **{option: value})
    assert first_loss(plain) == first_loss(plain)
    assert first_loss(changed) == first_loss(changed)
    assert first_loss(changed) != first_loss(plain)


def test_no_option_is_left_out_here() -> None:
    assert {option for options in OPTIONS.values() for option in options} == ModelConfig.__dataclass_fields__.keys() - {
        "name"
    }
