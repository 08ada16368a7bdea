"""What learns: a model, its optimizer and its data. It is of one process and outlives generations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from rowlock.protocol import TrainerConfig
from rowlock_trainer.data.sampler import Sampler
from rowlock_trainer.engine.failure import ConfigError
from rowlock_trainer.engine.optimizer import build_optimizer, set_learning_rate
from rowlock_trainer.engine.schedule import factor
from rowlock_trainer.engine.state import seed_microbatch
from rowlock_trainer.engine.task import Batch, Task
from rowlock_trainer.parallel.ddp import gradients


@dataclass(frozen=True)
class Learner:
    """A model, its optimizer and its data, on one rank."""

    config: TrainerConfig
    task: Task
    device: torch.device
    #: Bare: wrapping it for parallel training is a generation's matter.
    model: nn.Module
    optimizer: torch.optim.Optimizer
    sampler: Sampler

    @classmethod
    def build(cls, config: TrainerConfig, task: Task, device: torch.device) -> Learner:
        """Return a learner whose weights come from the job's seed: the same on every rank.

        Raises:
            ConfigError: The model's options do not make a model.
        """
        torch.manual_seed(config.seed)
        try:
            model = task.build_model().to(device)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return cls(
            config, task, device, model, build_optimizer(config.optimizer, model), Sampler(task.samples, config.seed)
        )

    def first_loss(self, model: nn.Module, *, rank: int, world_size: int) -> torch.Tensor:
        """Return the loss of this rank's first microbatch, for trying the wrapped `model` out."""
        batch = self._batches(0, rank, world_size)[0]
        return self.task.loss(model, batch)

    def take_step(self, model: nn.Module, step: int, samples: int, *, rank: int, world_size: int) -> torch.Tensor:
        """Take one optimizer step: a pure function of weights, optimizer state, step and cursor.

        Args:
            model: `self.model`, wrapped for this generation.
            step: Step to take, from 1.
            samples: Cursor before the step.
            rank: This rank.
            world_size: Ranks of the crew.

        Returns:
            This rank's mean loss over its share of the batch, a scalar on the device.

        Raises:
            RuntimeError: A peer is gone.
        """
        config = self.config
        batches = self._batches(samples, rank, world_size)
        total = torch.zeros((), device=self.device)
        for micro, batch in enumerate(batches):
            seed_microbatch(config, self.device, step=step, rank=rank, micro=micro)
            with gradients(model, synchronise=micro == len(batches) - 1):
                loss = self.task.loss(model, batch) / len(batches)
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        if config.gradient_clip_norm:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.gradient_clip_norm)
        set_learning_rate(self.optimizer, self.learning_rate(step))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        return self.config.optimizer.learning_rate * factor(self.config.schedule, step, self.config.steps)

    def finite(self) -> bool:
        """Whether every weight is a finite number."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.model.parameters())

    def _batches(self, samples: int, rank: int, world_size: int) -> list[Batch]:
        shares = self.sampler.microbatches(
            samples,
            self.config.global_batch_size,
            rank=rank,
            world_size=world_size,
            accumulation=self.config.accumulation_steps,
        )
        return [tuple(part.to(self.device) for part in self.task.train_batch(ids)) for ids in shares]
