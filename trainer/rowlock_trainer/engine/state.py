"""What a checkpoint holds of a training run, and whether one fits a job.

Tensors: weights, buffers and optimizer state, by the parameter's name. All else is a few numbers. Random
numbers need no state at all: they are drawn from a seed made of (run's seed, step, rank, microbatch), which
makes a resumed run exact and lets a crew of another size go on from the same checkpoint.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from rowlock.protocol import ModelConfig, TrainerConfig
from rowlock_trainer.data.order import derive
from rowlock_trainer.engine.failure import ConfigError

#: Options that make the model what it is; changing one of them makes the weights another model's.
_SHAPING: dict[str, tuple[str, ...]] = {
    "mlp": ("hidden",),
    "cnn": ("channels",),
    "gpt": ("layers", "heads", "width", "context"),
}


def tensors_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the live tensors of a run, nested by name; loading into them changes the run in place."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        "model": model.state_dict(),
        "optimizer": {names[id(parameter)]: dict(state) for parameter, state in optimizer.state.items() if state},
    }


@dataclass(frozen=True)
class Position:
    """How far a run is."""

    #: Optimizer steps taken.
    step: int = 0
    #: Samples trained on: the cursor.
    samples: int = 0
    #: Newest loss known, averaged over the crew; not a number before any is.
    loss: float = math.nan


def facts(config: TrainerConfig, position: Position, *, epoch: float, world_size: int) -> dict[str, Any]:
    """Return what goes beside the tensors: the position, and what the run was made of."""
    return {
        "samples": position.samples,
        "loss": position.loss if math.isfinite(position.loss) else None,
        "epoch": epoch,
        "seed": config.seed,
        "data": config.data,
        "trainer": _shape(config.model),
        "optimizer": config.optimizer.name,
        "world_size": world_size,
    }


def position_of(step: int, extra: dict[str, Any], where: str) -> Position:
    """Return the position that a checkpoint's facts tell.

    Raises:
        ConfigError: They do not tell one.
    """
    samples, loss = extra.get("samples"), extra.get("loss")
    if not isinstance(samples, int):
        raise ConfigError(
            f"checkpoint {where} says samples {samples!r}, not how many: it is not of the built-in trainer; "
            "give the job a storage claim of its own"
        )
    return Position(step, samples, float(loss) if isinstance(loss, (int, float)) else math.nan)


def check_fit(config: TrainerConfig, extra: dict[str, Any], where: str) -> None:
    """Refuse a checkpoint of another run.

    Args:
        config: The job as it is written now.
        extra: The checkpoint's facts.
        where: Path of the checkpoint, for the message.

    Raises:
        ConfigError: Model, optimizer, data or seed differ; names the first that does.
    """
    wanted = {
        "trainer": _shape(config.model),
        "optimizer": config.optimizer.name,
        "data": config.data,
        "seed": config.seed,
    }
    for name, value in wanted.items():
        found = extra.get(name)
        if found != value:
            field = "trainer.model" if name == "trainer" else f"trainer.{name}"
            raise ConfigError(
                f"checkpoint {where} was made with {field} {json.dumps(found)}, the job says {json.dumps(value)}: "
                "change it back, or give the job a storage claim of its own"
            )


def seed_microbatch(config: TrainerConfig, device: torch.device, *, step: int, rank: int, micro: int) -> None:
    """Seed torch's generators for one microbatch of one rank in one step (dropout draws from them)."""
    seed = derive(config.seed, step, rank, micro) >> 1  # generators take 63 bits on every device
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _shape(model: ModelConfig) -> dict[str, Any]:
    options = asdict(model)
    chosen = {"name": model.name, **{name: options[name] for name in _SHAPING[model.name]}}
    # Through JSON, as the manifest holds it: tuples are lists there.
    shape: dict[str, Any] = json.loads(json.dumps(chosen))
    return shape
