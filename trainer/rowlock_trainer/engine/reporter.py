"""What the world hears of a running generation: progress to the launcher, history to metrics.jsonl."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path

import torch

from rowlock.protocol import CheckpointNote, Notice, Progress
from rowlock_trainer.channel import RankChannel, RankSetup
from rowlock_trainer.engine.failure import DivergedError, OrphanedError
from rowlock_trainer.engine.groups import ProcessGroups, sum_over
from rowlock_trainer.engine.learner import Learner
from rowlock_trainer.engine.metrics import MetricsLog
from rowlock_trainer.engine.pace import Pace
from rowlock_trainer.engine.state import Position

log = logging.getLogger(__name__)


class Reporter:
    """Reports for one rank; rank 0 speaks for the crew, the others say their step.

    Args:
        setup: Who this rank is.
        channel: The wire to the launcher.
        learner: What is trained.
        groups: The crew.
    """

    def __init__(self, setup: RankSetup, channel: RankChannel, learner: Learner, groups: ProcessGroups) -> None:
        self._setup = setup
        self._channel = channel
        self._learner = learner
        self._groups = groups
        self._leads = groups.rank == 0
        self._metrics = MetricsLog(Path(setup.worker.checkpoint.directory), setup.generation, self._history_failed)
        self._first = 1
        self._loss = math.nan
        self._evaluation: dict[str, float] = {}
        self._pace = Pace(0)

    @property
    def loss(self) -> float:
        """Newest loss known, averaged over the crew: the same on every rank."""
        return self._loss

    def started(self, position: Position, checkpoint: CheckpointNote | None) -> None:
        """Tell that this generation trains, and where it went on from.

        Args:
            position: Where it goes on.
            checkpoint: What it was restored from; None at the beginning. It is told because it may not be the
                one that was told last: that one may have turned out to be bad.
        """
        step = position.step
        self._first = step + 1
        self._loss = position.loss
        self._pace = Pace(position.samples)
        self._channel.update(phase="running", step=step, resumed_from=step, checkpoint=checkpoint)
        if not self._leads:
            return
        generation = self._setup.generation
        if step > 0:
            message = f"Generation {generation} goes on from step {step} with {self._groups.world_size} ranks"
            self._channel.notice(Notice(f"resumed-{generation}", "Resumed", message))
            self._metrics.write(event="resumed", step=step)
            log.info("%s", message)
        else:
            log.info("generation %d starts with %d ranks", generation, self._groups.world_size)

    def finished_step(self, step: int, samples: int) -> None:
        """Tell that a step is finished; what is told waits its turn, so this costs microseconds.

        Raises:
            OrphanedError: The launcher is gone.
        """
        progress = self._progress(step, samples) if self._leads and not math.isnan(self._loss) else None
        try:
            self._channel.update(urgent=False, step=step, progress=progress)
        except OSError as error:
            raise OrphanedError("the launcher of this rank is gone") from error
        if self._channel.orphaned:
            raise OrphanedError("the launcher of this rank is gone")

    def log_loss(self, step: int, samples: int, loss: torch.Tensor) -> None:
        """Average the step's loss over the crew and log it, where it is due. Collective where it is due.

        Args:
            step: Step finished.
            samples: Cursor after it.
            loss: This rank's loss, a scalar.

        Raises:
            DivergedError: The loss is infinite or not a number, on every rank alike.
            RuntimeError: A peer is gone.
        """
        config = self._learner.config
        if step % config.log_every_steps and step not in (self._first, config.steps):
            return
        (total,) = sum_over(self._groups.control, [float(loss)])
        self._loss = total / self._groups.world_size
        if self._leads:
            self._metrics.write(
                step=step,
                loss=self._loss,
                lr=self._learner.learning_rate(step),
                samples_per_second=self._pace.samples_per_second(samples),
            )
        if not math.isfinite(self._loss):
            raise DivergedError(f"the loss is {self._loss} at step {step}")

    def evaluated(self, step: int, samples: int, metrics: dict[str, float]) -> None:
        """Tell the newest result on the held-out data."""
        self._evaluation = metrics
        if self._leads:
            self._metrics.write(event="evaluated", step=step, **metrics)
            log.info("step %d: %s", step, ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
            self._channel.update(progress=self._progress(step, samples))

    def done(self, step: int) -> None:
        """Tell that this rank has nothing left to do."""
        if self._leads:
            self._metrics.write(event="finished", step=step)
        self._channel.update(phase="done", step=step)

    def _progress(self, step: int, samples: int) -> Progress:
        config = self._learner.config
        pace = self._pace.samples_per_second(samples)
        left = (config.steps - step) * config.global_batch_size
        return Progress(
            step=step,
            total_steps=config.steps,
            epoch=samples / self._learner.task.samples,
            loss=self._loss,
            samples_per_second=pace,
            seconds_left=left / pace if pace else 0.0,
            time=time.time(),
            evaluation=self._evaluation,
        )

    def _history_failed(self, message: str) -> None:
        log.warning("%s", message)
        self._channel.notice(Notice(f"history-{self._setup.generation}", "Warning", message))
