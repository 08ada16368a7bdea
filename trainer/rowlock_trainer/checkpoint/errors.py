"""How saving and loading go wrong, in the words a person and the engine need.

Two kinds matter to the engine: the storage or the checkpoint is at fault (`CheckpointError`), or a peer
went away in the middle of a collective (`PeerLostError`), in which case the cause lies elsewhere and the
rank ends with `rowlock.protocol.ExitCode.PEER_LOST`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

#: Causes of a kind that a message names; the count of the rest is told.
NAMED = 3
#: No space, or the quota is used up: room on the volume mends it, nothing else does.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class CheckpointError(Exception):
    """A checkpoint could not be written, or none could be loaded.

    Attributes:
        storage_full: the volume has no room left.
        configuration: the checkpoint is good but does not fit this job; another try ends the same.
    """

    def __init__(self, message: str, *, storage_full: bool = False, configuration: bool = False) -> None:
        super().__init__(message)
        self.storage_full = storage_full
        self.configuration = configuration

    def __reduce__(self) -> tuple[object, ...]:
        """Travel between ranks with both flags."""
        return (_rebuild, (str(self), self.storage_full, self.configuration))


def _rebuild(message: str, storage_full: bool, configuration: bool) -> CheckpointError:
    return CheckpointError(message, storage_full=storage_full, configuration=configuration)


class PeerLostError(RuntimeError):
    """A collective of the checkpoint group broke: another rank died or was cut off."""


class BadCheckpointError(Exception):
    """One checkpoint is not what was written: which file, and what is wrong with it."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason)
        self.file = file
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


def is_full(error: BaseException) -> bool:
    """Return whether `error` says that the volume has no room left."""
    return isinstance(error, OSError) and error.errno in _FULL


def some(causes: Sequence[str], of_what: str) -> str:
    """Return the first causes in one line, and how many more there are: a crew may hold a thousand."""
    more = f"; ... and {len(causes) - NAMED} more {of_what}" if len(causes) > NAMED else ""
    return "; ".join(causes[:NAMED]) + more


def in_words(error: BaseException) -> str:
    """Return `error` in one line: for an OSError the path, the system's words and the errno's name."""
    if isinstance(error, OSError) and error.errno is not None:
        name = errno.errorcode.get(error.errno, str(error.errno))
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{os.strerror(error.errno)} ({name})"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
