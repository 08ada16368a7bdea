"""The built-in tasks: classes of handwritten digits, and the next byte of Python source."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from rowlock.protocol import ModelConfig, TrainerConfig
from rowlock_trainer.data import digits, text
from rowlock_trainer.data.order import Ids
from rowlock_trainer.engine.failure import ConfigError
from rowlock_trainer.engine.task import Batch, Task
from rowlock_trainer.models.cnn import Cnn
from rowlock_trainer.models.gpt import Gpt
from rowlock_trainer.models.mlp import Mlp

#: Held-out samples a rank evaluates at once: keeps the activations of the larger models below 100 MiB.
_EVALUATION_BATCH = 64


def build_task(config: TrainerConfig) -> Task:
    """Return the task a job names.

    Raises:
        ConfigError: Model and data do not go together.
        DataError: The data cannot be had.
    """
    if (config.model.name == "gpt") != (config.data == "python-text"):
        raise ConfigError(
            f"trainer.model {config.model.name} does not go with trainer.data {config.data}: "
            "python-text is for gpt, digits is for mlp and cnn"
        )
    return NextByte(config.model) if config.model.name == "gpt" else Digits(config.model)


class Digits:
    """Which digit an image shows. Metrics: loss in nats, accuracy from 0 to 1."""

    def __init__(self, model: ModelConfig) -> None:
        self._model = model
        self._train, self._held_out = digits.load()

    @property
    def samples(self) -> int:
        """Number of images to train on."""
        return len(self._train)

    @property
    def held_out(self) -> int:
        """Number of held-out images."""
        return len(self._held_out)

    def build_model(self) -> nn.Module:
        """Return a new classifier."""
        model = self._model
        if model.name == "mlp":
            return Mlp(digits.PIXELS, model.hidden, digits.CLASSES, model.dropout)
        return Cnn(digits.SIDE, model.channels, digits.CLASSES, model.dropout)

    def train_batch(self, ids: Ids) -> Batch:
        """Return images, float32 [n, 1, 8, 8], and classes, int64 [n]."""
        chosen = torch.from_numpy(ids)
        return self._train.pixels[chosen], self._train.labels[chosen]

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the mean cross-entropy, in nats."""
        images, labels = batch
        return functional.cross_entropy(model(images), labels)

    def evaluate(self, model: nn.Module, ids: range, device: torch.device) -> dict[str, float]:
        """Return summed cross-entropy, number of right answers, number of images."""
        loss = right = 0.0
        for chunk in _chunks(ids):
            images = self._held_out.pixels[chunk].to(device)
            labels = self._held_out.labels[chunk].to(device)
            logits = model(images)
            loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
            right += float((logits.argmax(1) == labels).sum())
        return {"loss": loss, "right": right, "count": float(len(ids))}

    def metrics(self, sums: dict[str, float]) -> dict[str, float]:
        """Return mean loss and accuracy."""
        return {"loss": sums["loss"] / sums["count"], "accuracy": sums["right"] / sums["count"]}


class NextByte:
    """Which byte comes next in Python source. Metrics: loss in nats a byte, bits a byte."""

    def __init__(self, model: ModelConfig) -> None:
        self._model = model
        self._train, self._held_out = text.load(model.context)

    @property
    def samples(self) -> int:
        """Number of windows to train on."""
        return len(self._train)

    @property
    def held_out(self) -> int:
        """Number of held-out windows."""
        return len(self._held_out)

    def build_model(self) -> nn.Module:
        """Return a new language model."""
        model = self._model
        return Gpt(text.VOCABULARY, model.context, model.layers, model.heads, model.width, dropout=model.dropout)

    def train_batch(self, ids: Ids) -> Batch:
        """Return windows, int64 [n, context + 1]."""
        return (self._train.take(ids),)

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the mean cross-entropy, in nats a byte."""
        (windows,) = batch
        logits = model(windows[:, :-1])
        return functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())

    def evaluate(self, model: nn.Module, ids: range, device: torch.device) -> dict[str, float]:
        """Return summed cross-entropy and number of bytes predicted."""
        loss = 0.0
        for chunk in _chunks(ids):
            windows = self._held_out.take(chunk).to(device)
            logits = model(windows[:, :-1])
            loss += float(functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), reduction="sum"))
        return {"loss": loss, "count": float(len(ids) * self._held_out.context)}

    def metrics(self, sums: dict[str, float]) -> dict[str, float]:
        """Return mean loss, and the same in bits a byte."""
        loss = sums["loss"] / sums["count"]
        return {"loss": loss, "bits_per_byte": loss / math.log(2)}


def _chunks(ids: range) -> Iterator[Ids]:
    for start in range(0, len(ids), _EVALUATION_BATCH):
        yield np.asarray(ids[start : start + _EVALUATION_BATCH], dtype=np.int64)
