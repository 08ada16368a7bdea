"""Folds the states of a worker's ranks into the one report that its launcher gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from rowlock.protocol import CheckpointNote, Notice, RankExit, RankPhase, Report
from rowlock_trainer.channel import RankState
from rowlock_trainer.launcher.rank import Rank

#: Endings that keep their traceback in a report: with 64 ranks a worker, all of them in six-byte JSON escapes
#: would not fit a message, and the first ones to end hold the cause.
TRACEBACKS = 8
#: Notices a report repeats: those of a few generations of a few ranks; older ones are long told.
NOTICES = 50


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
    return tuple(ending if at < TRACEBACKS else replace(ending, traceback="") for at, ending in enumerate(exits))


def newest_checkpoint(known: CheckpointNote | None, ranks: Iterable[Rank]) -> CheckpointNote | None:
    """Return the newest checkpoint of those known so far and those the ranks name."""
    notes = [note for note in (known, *(rank.state.checkpoint for rank in ranks)) if note is not None]
    return max(notes, key=lambda note: (note.generation, note.step), default=None)


def add_notices(known: tuple[Notice, ...], state: RankState) -> tuple[Notice, ...]:
    """Return the notices with those of one rank added, each under an id that no other rank uses."""
    ids = {notice.id for notice in known}
    named = (replace(notice, id=f"g{state.generation}-r{state.rank}-{notice.id}") for notice in state.notices)
    return (*known, *(notice for notice in named if notice.id not in ids))[-NOTICES:]
