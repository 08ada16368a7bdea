"""Folds the states of a worker's ranks into the one report that its launcher gives.

Whatever the ranks say, the report fits one message: text is cut, and no more of it is told than there is
room for. A report that is too long would be refused, the launcher would come back with the same one, and
the worker would be unheard for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from rowlock.protocol import (
    NOTICE_CHARS,
    REASON_CHARS,
    TRACEBACK_CHARS,
    CheckpointNote,
    Notice,
    RankExit,
    RankPhase,
    Report,
    shortened,
)
from rowlock_trainer.channel import RankState
from rowlock_trainer.launcher.rank import Rank

#: Endings that keep their traceback in a report: the first ones to end hold the cause. A character takes at
#: most 12 bytes in JSON, so these take 192 kB, the reasons of 64 ranks 384 kB and the notices 300 kB of a
#: message's 1049 kB.
TRACEBACKS = 8
#: Notices a report repeats: those of a few generations of a few ranks; older ones are long told.
NOTICES = 25
#: Characters of a notice's id: longer than any that is given here.
_ID_CHARS = 200


def phase_of(ranks: Sequence[Rank]) -> RankPhase:
    """Return the phase of a worker with these ranks."""
    if not ranks:
        return "idle"
    if any(rank.exit for rank in ranks):
        return "ended"
    if all(rank.done for rank in ranks):
        return "done"
    phases = {rank.state.phase for rank in ranks if not rank.ended}
    if phases <= {"running", "done", "failed"}:
        return "running"
    return "ready" if "starting" not in phases else "starting"


def fold(generation: int, ranks: Sequence[Rank]) -> Report:
    """Return the report of a worker with these ranks, without what outlives a generation."""
    states = [rank.state for rank in ranks]
    first = next((state for state in states if state.rank == 0), RankState(generation, 0))
    return Report(
        generation=generation,
        phase=phase_of(ranks),
        store=first.store,
        exits=_exits(ranks),
        progress=first.progress,
        resumed_from=max((state.resumed_from for state in states), default=-1),
    )


def _exits(ranks: Iterable[Rank]) -> tuple[RankExit, ...]:
    exits = sorted((rank.exit for rank in ranks if rank.exit), key=lambda ending: ending.time)
    return tuple(in_short(ending, traceback=at < TRACEBACKS) for at, ending in enumerate(exits))


def in_short(ending: RankExit, *, traceback: bool = True) -> RankExit:
    """Return an ending whose texts are short enough to travel, with its traceback or without."""
    end = ending.traceback[-TRACEBACK_CHARS:] if traceback else ""
    return replace(ending, reason=shortened(ending.reason, REASON_CHARS), traceback=end)


def newest_checkpoint(known: CheckpointNote | None, ranks: Iterable[Rank]) -> CheckpointNote | None:
    """Return the checkpoint a crew would go on from now.

    The ranks' word stands against what was known before them: they have looked at the volume, and may have
    gone back to an earlier checkpoint because the one known is bad. Among themselves the furthest is the
    newest, because within a generation steps only grow.

    Args:
        known: What this worker's ranks of an earlier generation, or these ranks, said last.
        ranks: The ranks of this generation.
    """
    if any(rank.state.resumed_from == 0 for rank in ranks):
        known = None  # they looked and found none
    said = [rank.state.checkpoint for rank in ranks if rank.state.checkpoint is not None]
    return max(said, key=lambda note: (note.step, note.time), default=known)


def add_notices(known: tuple[Notice, ...], state: RankState) -> tuple[Notice, ...]:
    """Return the notices with those of one rank added, each under an id that no other rank uses."""
    ids = {notice.id for notice in known}
    named = (_named(notice, state) for notice in state.notices)
    return (*known, *(notice for notice in named if notice.id not in ids))[-NOTICES:]


def _named(notice: Notice, state: RankState) -> Notice:
    identity = f"g{state.generation}-r{state.rank}-{notice.id}"[:_ID_CHARS]
    return replace(notice, id=identity, message=shortened(notice.message, NOTICE_CHARS))
