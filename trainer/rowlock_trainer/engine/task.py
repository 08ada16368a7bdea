"""What is trained: the one interface between the engine and a learning problem.

The engine knows steps, ranks, saving and recovery; a task knows its model, data and loss. Neither knows the
other's side, so a task of one's own gets recovery for nothing.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from rowlock_trainer.data.order import Ids

#: Tensors whose first dimension is the sample.
Batch = tuple[torch.Tensor, ...]


class Task(Protocol):
    """A learning problem. Everything it returns is on the CPU; the engine moves it."""

    @property
    def samples(self) -> int:
        """Number of samples to train on."""

    @property
    def held_out(self) -> int:
        """Number of held-out samples."""

    def build_model(self) -> nn.Module:
        """Return a new model, its weights drawn from torch's default generator.

        Raises:
            ValueError: The options do not make a model; the message names the field.
        """

    def train_batch(self, ids: Ids) -> Batch:
        """Return the training samples `ids`, a pure function of them."""

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the mean loss over the batch, a scalar. It calls `model` once."""

    def evaluate(self, model: nn.Module, ids: range, device: torch.device) -> dict[str, float]:
        """Return sums over the held-out samples `ids`: the same keys for every `ids`, even an empty one."""

    def metrics(self, sums: dict[str, float]) -> dict[str, float]:
        """Return the metrics of the sums over all held-out samples: ``loss`` and others."""
