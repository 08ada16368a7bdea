"""What the launcher and its warm parent say to each other.

One `SOCK_SEQPACKET` socket pair: a packet is a message, and the pipes for a rank's output travel with the
message that starts it. Only the launcher's wish and plain facts cross it, each as one JSON object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rowlock_trainer.channel import RankSetup


@dataclass(frozen=True)
class ToZygote:
    """A command of the launcher. With ``start`` come two descriptors: standard output and standard error."""

    kind: Literal["start", "signal"]
    rank: int = -1
    #: ``start``: the setup handed to the entry point, for the built-in trainer.
    setup: RankSetup | None = None
    #: ``start``: the command to execute instead, and what its environment holds beside the launcher's. Without
    #: a command and a setup the environment itself is handed to the entry point.
    command: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)
    #: ``signal``: sent to the process groups of all ranks that have not ended.
    signal: int = 0


@dataclass(frozen=True)
class FromZygote:
    """A fact told by the warm parent."""

    kind: Literal["warm", "cold", "started", "refused", "ended"]
    rank: int = -1
    #: ``started``: process id.
    pid: int = 0
    #: ``ended``: status as waitpid gives it.
    status: int = 0
    #: ``ended``: errno of execve when the command could not be executed.
    exec_errno: int = 0
    #: ``cold``: exit code the launcher should end with.
    code: int = 0
    #: ``cold``, ``refused``: why, in words.
    reason: str = ""
    #: ``cold``: last lines of the traceback.
    traceback: str = ""


#: Longest packet, in bytes. A start repeats at most the worker's configuration, which came in one variable of
#: the environment and so has at most 128 KiB (MAX_ARG_STRLEN); a socket's default buffer holds 208 KiB.
PACKET_BYTES = 192 * 1024
