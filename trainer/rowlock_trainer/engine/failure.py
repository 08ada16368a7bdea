"""Why a rank ends other than by finishing, told in words and by an exit code.

The exit code decides what the operator does next, so the one question that matters is whose fault it was:
a peer's (go on when the crew is whole again), the volume's, the job's as it is written, or our own.
"""

from __future__ import annotations

import time
import traceback

import torch.distributed as dist

from rowlock.protocol import REASON_CHARS, TRACEBACK_CHARS, ExitCode, RankExit, shortened
from rowlock_trainer.checkpoint.errors import CheckpointError, PeerLostError
from rowlock_trainer.data.errors import DataError

#: What Gloo's and NCCL's errors contain; Gloo's come as bare RuntimeErrors that name its source file.
_COLLECTIVE_SIGNS = ("gloo/", "Gloo", "NCCL", "ProcessGroup", "Connection closed by peer", "Connection reset by peer")


class ConfigError(Exception):
    """The job cannot run as it is written; the message names the field and the way out."""


class DivergedError(Exception):
    """Training went off to infinity or to no number at all; going on would train nothing.

    Nor would another try: a run repeats bit by bit from its checkpoint and diverges at the same step. So this
    is a fault of the job as it is written.
    """

    def __init__(self, what: str) -> None:
        """`what` says what is no number any more, and after which step."""
        super().__init__(
            f"training diverged: {what}. Another try would diverge the same way: lower the optimizer's "
            "learningRate, lengthen schedule.warmupSteps or set trainer.gradientClipNorm, and submit the job anew"
        )


class OrphanedError(Exception):
    """The launcher of this rank is gone: nobody would hear of what it does."""


def explain(error: BaseException, *, rank: int, step: int) -> RankExit:
    """Return how a rank that met `error` ends.

    Args:
        error: What was raised.
        rank: The rank it was raised in.
        step: Last step the rank had finished, -1 when none.
    """
    code = exit_code(error)
    told = isinstance(error, (ConfigError, DataError, DivergedError, CheckpointError, PeerLostError, OrphanedError))
    trace = "" if told else "".join(traceback.format_exception(error))[-TRACEBACK_CHARS:]
    return RankExit(rank=rank, code=code, step=step, reason=_reason(error, code), time=time.time(), traceback=trace)


def exit_code(error: BaseException) -> ExitCode:
    """Return the exit code that says whose fault `error` is."""
    if isinstance(error, (ConfigError, DataError, DivergedError)):
        return ExitCode.CONFIG
    if isinstance(error, CheckpointError):
        return ExitCode.CONFIG if error.configuration else ExitCode.STORAGE
    if is_peer_lost(error):
        return ExitCode.PEER_LOST
    return ExitCode.FAILED


def is_peer_lost(error: BaseException) -> bool:
    """Whether `error` is a collective or a rendezvous that broke because of another rank."""
    if isinstance(error, (PeerLostError, dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _COLLECTIVE_SIGNS)


def _reason(error: BaseException, code: ExitCode) -> str:
    words = " ".join(str(error).split()) or "no message"
    if code is ExitCode.PEER_LOST and not isinstance(error, PeerLostError):
        words = f"a peer went away in the middle of a collective: {words}"
    elif code is ExitCode.FAILED and not isinstance(error, OrphanedError):
        words = f"{type(error).__name__}: {words}"
    return shortened(words, REASON_CHARS)
