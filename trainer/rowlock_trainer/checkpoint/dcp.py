"""The two doors into torch.distributed.checkpoint, and what comes out of them when things go wrong.

Inside, torch carries any rank's exception to all ranks and raises `CheckpointException`, which is no
`Exception`; a RuntimeError that is not wrapped so comes from a broken collective. Here they become
`CheckpointError` and `PeerLostError`.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner

from rowlock_trainer.checkpoint.crew import broken_means_peer_lost
from rowlock_trainer.checkpoint.errors import CheckpointError, in_words, is_full, some

if TYPE_CHECKING:
    from rowlock.protocol import CheckpointNote
    from rowlock_trainer.checkpoint.crew import Crew
    from rowlock_trainer.checkpoint.reader import CheckpointReader
    from rowlock_trainer.checkpoint.staging import StagedPlanner
    from rowlock_trainer.checkpoint.writer import CheckpointWriter

# A crew of one needs no process group: no reason to warn at every checkpoint.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
# torch logs each failure as a traceback before it raises it; ours are told once, in words.
logging.getLogger("c10d-NullHandler-dcp_logger").setLevel(logging.CRITICAL)


def save(crew: Crew, writer: CheckpointWriter, planner: StagedPlanner) -> CheckpointNote:
    """Plan, write and commit what `planner` has staged; return the note of the checkpoint, on every rank.

    Raises:
        CheckpointError: it could not be written; no rank is writing any more.
        PeerLostError: another rank went away.
    """
    try:
        with broken_means_peer_lost():
            metadata = state_dict_saver.save(
                {},
                storage_writer=writer,
                planner=planner,
                process_group=crew.group,
                no_dist=crew.group is None,
            )
    except CheckpointException as error:
        raise _failure("could not be written", error) from error
    note: CheckpointNote = metadata.storage_data
    return note


def load(crew: Crew, reader: CheckpointReader, tensors: dict[str, Any]) -> None:
    """Read into `tensors` (by key, all of them in the checkpoint), resharding as needed.

    Raises:
        CheckpointError: a rank could not read.
        PeerLostError: another rank went away.
    """
    try:
        with broken_means_peer_lost():
            state_dict_loader.load(
                tensors,
                storage_reader=reader,
                planner=DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False),
                process_group=crew.group,
                no_dist=crew.group is None,
            )
    except CheckpointException as error:
        raise _failure("could not be loaded", error) from error


def _failure(what: str, error: CheckpointException) -> CheckpointError:
    """Return the failures of all ranks as one error in words."""
    causes = {rank: cause for rank, (cause, _) in sorted(error.failures.items())}
    words = some([f"rank {rank}: {in_words(cause)}" for rank, cause in causes.items()], "ranks")
    return CheckpointError(f"{what}: {words}", storage_full=any(map(is_full, causes.values())))
