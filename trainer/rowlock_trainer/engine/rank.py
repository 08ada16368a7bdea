"""One rank's life in one generation, from its fork to its exit code.

The order of things is chosen for a quick recovery: all that needs no peer (data, model, optimizer, the
store's socket) is done before the rank says it is ready, and the crew starts when the last one is.
"""

from __future__ import annotations

import logging
import sys

from rowlock.protocol import ExitCode, TrainerConfig
from rowlock_trainer.channel import RankChannel, RankSetup
from rowlock_trainer.engine.builtin import build_task
from rowlock_trainer.engine.device import choose_device, make_repeatable
from rowlock_trainer.engine.failure import ConfigError, explain
from rowlock_trainer.engine.fault import Fault
from rowlock_trainer.engine.groups import COLLECTIVE_TIMEOUT, ProcessGroups
from rowlock_trainer.engine.learner import Learner
from rowlock_trainer.engine.loop import train
from rowlock_trainer.engine.store import join_store, open_store

log = logging.getLogger(__name__)


def run_rank(setup: RankSetup) -> int:
    """Be one rank of one generation; return its exit code, never raise.

    The caller ends the process with ``os._exit``: a thread that still waits for a dead peer inside a
    collective would hold an ordinary exit up.

    Args:
        setup: Who this rank is and how it reaches its launcher.
    """
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s", force=True)
    try:
        channel = RankChannel(setup)
    except OSError as error:
        log.error("rank %d: its launcher does not answer at %r: %s", setup.rank, setup.socket, error)  # noqa: TRY400
        return ExitCode.FAILED
    try:
        return _live(setup, channel)
    except BaseException as error:  # noqa: BLE001 (the last line of defence: whatever it was becomes words)
        return _end(setup, channel, error)


def _live(setup: RankSetup, channel: RankChannel) -> ExitCode:
    config = _trainer_config(setup)
    make_repeatable(config.threads_per_process)
    learner = Learner.build(config, build_task(config), choose_device(config.device, setup.local_rank))
    if setup.rank == 0:
        # Held open to the end: the store lives in this process.
        opened, endpoint = open_store(setup.address, COLLECTIVE_TIMEOUT)
        channel.update(phase="ready", store=endpoint)
    else:
        opened = None
        channel.update(phase="ready")
    endpoint = channel.wait_for_store()
    if not endpoint:
        log.info("told to stop before the crew was whole; nothing is lost")
        return ExitCode.SAVED
    store = opened or join_store(endpoint, COLLECTIVE_TIMEOUT)
    groups = ProcessGroups.build(store, setup.rank, setup.world_size, learner.device, generation=setup.generation)
    code = train(setup, channel, learner, groups)
    groups.drop()
    return code


def _trainer_config(setup: RankSetup) -> TrainerConfig:
    """Return the trainer's part of the job. Raises `ConfigError` when the job cannot run as it is written."""
    config = setup.worker.trainer
    if config is None:
        raise ConfigError("the job has no trainer, only a command: its ranks are not the built-in trainer's")
    share = setup.world_size * config.accumulation_steps
    if config.global_batch_size % share:
        raise ConfigError(
            f"trainer.globalBatchSize {config.global_batch_size} is not a multiple of ranks x accumulationSteps = "
            f"{setup.world_size} x {config.accumulation_steps} = {share}"
        )
    Fault(setup.fault)
    return config


def _end(setup: RankSetup, channel: RankChannel, error: BaseException) -> int:
    failure = explain(error, rank=setup.rank, step=channel.state.step)
    log.error("rank %d ends with code %d: %s", setup.rank, failure.code, failure.reason)
    if failure.traceback:
        log.error("%s", failure.traceback)
    try:
        channel.update(phase="failed", failure=failure)
    except OSError as gone:
        log.error("the launcher cannot be told: %s", gone)  # noqa: TRY400 (the traceback above is the one that counts)
    return failure.code
