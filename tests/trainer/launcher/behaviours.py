"""What ranks do in these tests, in place of training: it needs no torch and takes no time.

The launcher runs as a process of its own, and so these functions run in a real warm parent and real ranks.
The variable BEHAVIOUR chooses.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from rowlock.protocol import CheckpointNote, ExitCode, Notice, Progress, RankExit
from rowlock_trainer.channel import RankChannel, RankSetup

BEHAVIOUR = "BEHAVIOUR"


def warm_up() -> None:
    behaviour = os.environ.get(BEHAVIOUR, "")
    if behaviour == "module missing":
        import nothing_of_this_name  # noqa: F401
    if behaviour == "thread while warming up":
        threading.Thread(target=signal.pause, name="stray", daemon=True).start()
    if behaviour == "killed while warming up":
        os.kill(os.getpid(), signal.SIGKILL)


def run(setup: RankSetup) -> int:
    sys.stdout.write(f"pid {os.getpid()} generation {setup.generation}\n")
    behaviour = os.environ.get(BEHAVIOUR, "")
    if behaviour == "raises":
        raise RuntimeError("the data are gone")
    if behaviour == "ends with a word" and setup.rank == 0:
        return _end_with_a_word(setup)
    channel = RankChannel(setup)
    store = f"{setup.address}:4000{setup.generation}" if setup.rank == 0 else ""
    channel.update(phase="ready", store=store)
    if not channel.wait_for_store():
        return ExitCode.SAVED
    _run(channel, setup)
    if behaviour == "finishes":
        channel.update(phase="done")
        return ExitCode.DONE
    _wait_for(channel, save=behaviour != "never saves")
    if channel.orphaned:
        return ExitCode.FAILED
    sys.stdout.write("saved")  # no line end: the last line counts, too
    return ExitCode.SAVED


def _run(channel: RankChannel, setup: RankSetup) -> None:
    channel.update(
        phase="running",
        step=7,
        resumed_from=5,
        progress=Progress(7, 10, 0.5, 0.25, 100.0, 3.0, time.time()),
        checkpoint=CheckpointNote(5 + setup.generation, setup.generation, 10, time.time(), "step-5"),
        notices=(Notice("1", "Resumed", "went on from step 5"),),
    )


def _wait_for(channel: RankChannel, *, save: bool) -> None:
    with channel._changed:
        channel._changed.wait_for(lambda: channel.orphaned or (save and channel.command.save))


def _end_with_a_word(setup: RankSetup) -> int:
    channel = RankChannel(setup)
    reason = "lost its peer in all_reduce"
    channel.update(
        phase="failed", step=3, failure=RankExit(setup.rank, ExitCode.PEER_LOST, 3, reason, time.time(), "tb")
    )
    os.abort()
