"""When the engine saves, and what it does when a save must not fail.

While training goes on, a save that fails costs nothing but its checkpoint: the next one may succeed, and a
person was told. The last save, before the crew ends, is another matter: without it steps are lost, so it is
waited for, and tried again.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from rowlock.protocol import CheckpointConfig, CheckpointNote
from rowlock_trainer.checkpoint import Checkpointer
from rowlock_trainer.checkpoint.errors import CheckpointError
from rowlock_trainer.engine.failure import DivergedError
from rowlock_trainer.engine.groups import ProcessGroups
from rowlock_trainer.engine.learner import Learner
from rowlock_trainer.engine.state import Position, check_fit, facts, position_of, tensors_of

log = logging.getLogger(__name__)

#: Seconds before each new try of the last save. Together far below the default grace period of 30 s; what
#: frees room on a volume (a finished upload, another job's retention) takes a moment, or a person.
RETRY_AFTER = (0.5, 1.0, 2.0)


class Saving:
    """Saves and restores one learner, by the job's triggers.

    Args:
        learner: What is saved.
        config: Where, and the triggers.
        groups: The crew.
        checkpointer: Writes and reads.

    Attributes:
        restored: The checkpoint that `resume` went on from, None while there is none.
    """

    def __init__(
        self, learner: Learner, config: CheckpointConfig, groups: ProcessGroups, checkpointer: Checkpointer
    ) -> None:
        self._learner = learner
        self._config = config
        self._groups = groups
        self._checkpointer = checkpointer
        self._saved_at = time.monotonic()
        self._saved_step = -1
        self.restored: CheckpointNote | None = None

    def resume(self) -> Position:
        """Load the newest verified checkpoint into the learner. Collective.

        Returns:
            Where to go on from; the beginning when there is no checkpoint.

        Raises:
            CheckpointError: There are checkpoints, but none that is good, or it does not fit.
            ConfigError: It is of another run.
        """
        state = tensors_of(self._learner.model, self._learner.optimizer)
        loaded = self._checkpointer.load_newest(state)
        if loaded is None:
            return Position()
        where = str(Path(self._config.directory) / loaded.note.name)
        check_fit(self._learner.config, loaded.extra, where)
        self._saved_step = loaded.step
        self.restored = loaded.note
        return position_of(loaded.step, loaded.extra, where)

    def due(self, step: int) -> bool:
        """Whether the step alone asks for a save: the same answer on every rank."""
        return bool(self._config.every_steps) and step % self._config.every_steps == 0

    def overdue(self) -> bool:
        """Whether the clock asks for a save, as this rank sees it."""
        return 0 < self._config.every_seconds <= time.monotonic() - self._saved_at

    def save(self, position: Position) -> None:
        """Begin to save the state at `position`; training may go on at once. Collective.

        Raises:
            DivergedError: The weights are no numbers any more; the checkpoints there are stay the newest.
            PeerLostError: A peer is gone.
        """
        if not self._learner.finite():
            raise DivergedError(f"a weight is infinite or not a number after step {position.step}, so it is not saved")
        self._saved_at = time.monotonic()
        self._saved_step = position.step
        extra = facts(
            self._learner.config,
            position,
            epoch=position.samples / self._learner.task.samples,
            world_size=self._groups.world_size,
        )
        self._checkpointer.save(position.step, tensors_of(self._learner.model, self._learner.optimizer), extra)

    def poll(self) -> None:
        """Notice the end of a save under way; its failure is told, and training goes on.

        Raises:
            PeerLostError: A peer is gone.
        """
        self._checkpointer.poll()

    def save_for_good(self, position: Position) -> None:
        """Save the state at `position` if it is not saved yet, and return once it is verified. Collective.

        Raises:
            CheckpointError: It could not be saved, several times over.
            PeerLostError: A peer is gone.
        """
        # One that is under way ends first: from then on all ranks know the same of it.
        self._waited(position.step)
        for pause in (0.0, *RETRY_AFTER):
            if self._saved_step == position.step and not self._checkpointer.consecutive_failures:
                return
            # Nothing tells when a volume has room again, so there is no condition to wait for.
            time.sleep(pause)
            self.save(position)
            error = self._waited(position.step)
        if error is not None:
            raise error

    def _waited(self, step: int) -> CheckpointError | None:
        """Return once no save is under way, with the failure of the one that was."""
        try:
            self._checkpointer.wait()
        except CheckpointError as error:
            log.warning("step %d is not saved yet: %s", step, error)
            return error
        return None
