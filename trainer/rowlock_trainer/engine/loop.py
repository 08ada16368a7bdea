"""The training loop of one generation, to be read from top to bottom.

Every rank runs the same lines in the same order. Whatever decides the way (a trigger, a vote, a loss that is
no number) is the same on every rank, so that no rank ever waits in a collective that another does not enter.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch.distributed as dist

from rowlock.protocol import ExitCode
from rowlock_trainer.channel import RankChannel, RankSetup
from rowlock_trainer.checkpoint import Checkpointer
from rowlock_trainer.engine.agree import Agreement
from rowlock_trainer.engine.evaluate import evaluate
from rowlock_trainer.engine.failure import is_peer_lost
from rowlock_trainer.engine.fault import Fault
from rowlock_trainer.engine.groups import ProcessGroups
from rowlock_trainer.engine.learner import Learner
from rowlock_trainer.engine.reporter import Reporter
from rowlock_trainer.engine.saving import Saving
from rowlock_trainer.engine.state import Position
from rowlock_trainer.parallel.ddp import replicate, settle

log = logging.getLogger(__name__)


def train(
    setup: RankSetup,
    channel: RankChannel,
    learner: Learner,
    groups: ProcessGroups,
    *,
    bucket_cap_mb: float | None = None,
) -> ExitCode:
    """Train from the newest verified checkpoint to the last step, or to where the crew is told to stop.

    Args:
        setup: Who this rank is.
        channel: The wire to its launcher.
        learner: Model, optimizer and data; its state is overwritten from the checkpoint if there is one.
        groups: This generation's process groups.
        bucket_cap_mb: Largest gradient bucket, in MiB; torch's default when None.

    Returns:
        DONE after the last step, its checkpoint verified and its evaluation told; SAVED when told to stop.

    Raises:
        Exception: Whatever ends the generation early; `rowlock_trainer.engine.failure` knows what it means.
    """
    config = learner.config
    rank, world_size = groups.rank, groups.world_size

    # All steps are alike, the first after a resume too: settle what would otherwise change on the way.
    model = replicate(learner.model, groups.data, learner.device, bucket_cap_mb=bucket_cap_mb)
    settle(model, lambda: learner.first_loss(model, rank=rank, world_size=world_size))

    saving = Saving(learner, setup.worker.checkpoint, groups, _checkpointer(setup, channel, groups))
    start = saving.resume()
    step, samples = start.step, start.samples

    fault = Fault(setup.fault, setup.launcher_pid)
    agreement = Agreement(groups.control, leader=rank == 0, step=step)
    reporter = Reporter(setup, channel, learner, groups)
    reporter.started(start, saving.restored)

    while step < config.steps:
        step += 1
        agreement.before(step, stop=channel.command.save, save=rank == 0 and saving.overdue())
        loss = learner.take_step(model, step, samples, rank=rank, world_size=world_size)
        samples += config.global_batch_size

        reporter.log_loss(step, samples, loss)
        reporter.finished_step(step, samples)
        if config.evaluate_every_steps and step % config.evaluate_every_steps == 0 and step < config.steps:
            reporter.evaluated(step, samples, evaluate(learner, groups))

        verdict = agreement.after(step, stop=channel.command.save, save=rank == 0 and saving.overdue())
        if verdict.stop and step < config.steps:
            saving.save_for_good(Position(step, samples, reporter.loss))
            log.info("saved at step %d, as told; ending", step)
            _farewell(groups)
            return ExitCode.SAVED
        if saving.due(step) or verdict.save:
            saving.save(Position(step, samples, reporter.loss))
        saving.poll()
        fault.strike(step)

    saving.save_for_good(Position(step, samples, reporter.loss))
    reporter.evaluated(step, samples, evaluate(learner, groups))
    _farewell(groups)
    reporter.done(step)
    return ExitCode.DONE


def _checkpointer(setup: RankSetup, channel: RankChannel, groups: ProcessGroups) -> Checkpointer:
    config = setup.worker.checkpoint
    return Checkpointer(
        Path(config.directory),
        keep=config.keep,
        generation=setup.generation,
        group=groups.checkpoint,
        on_verified=lambda note: channel.update(checkpoint=note),
        on_notice=channel.notice,
        job_uid=setup.worker.job_uid,
    )


def _farewell(groups: ProcessGroups) -> None:
    """Leave together, so that nobody's last message dies with the connection of one who left first."""
    if groups.control is None:
        return
    try:
        dist.barrier(group=groups.control)
    except RuntimeError as error:
        # All is saved and told by now; a peer that is already gone takes nothing with it.
        if not is_peer_lost(error):
            raise
