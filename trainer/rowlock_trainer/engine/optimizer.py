"""The optimizers, with their state there from the start.

torch makes an optimizer's state in its first step. A checkpoint can only be loaded into state that exists,
and a resumed run must do exactly what an undisturbed one does, so the state is made here, as the zeros that
the first step would have made, in every run, fresh or resumed. One layout, one way of going on.
"""

from __future__ import annotations

import torch
from torch import nn

from rowlock.protocol import OptimizerConfig


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of all of the model's parameters, its state made.

    The fused kernels compute the same update in one pass over memory, on the CPU too.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer: torch.optim.Optimizer
    if config.name == "sgd":
        optimizer = torch.optim.SGD(
            parameters,
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=True,
        )
    else:
        optimizer = torch.optim.AdamW(
            parameters,
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=True,
        )
    for parameter in parameters:
        optimizer.state[parameter] = _initial_state(config, parameter)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def _initial_state(config: OptimizerConfig, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
    if config.name == "sgd":
        return {"momentum_buffer": torch.zeros_like(parameter)} if config.momentum else {}
    return {
        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
        "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter),
    }
