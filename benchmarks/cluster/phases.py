"""From moments to phases: pure arithmetic, so that the table's honesty can be tested without a cluster.

A recovery is a row of milestones, each the moment at which something had happened on *every* worker that had to do it.
A phase is the time between two of them. News travels at different speeds (a watch is a moment behind a process's own
clock), so a milestone that seems to lie before the one it follows counts as reached together with it: no phase is
negative, and the phases of a recovery always add up to the whole.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Phase and the milestone it ends with, in the order of a script that is started by a launcher or an agent.
SCRIPT_PHASES: tuple[tuple[str, str], ...] = (
    ("detect", "decided"),
    ("replace", "created"),
    ("schedule", "scheduled"),
    ("start", "started"),
    ("form", "processes"),
    ("import", "imported"),
    ("join", "joined"),
    ("wrap", "wrapped"),
    ("load", "loaded"),
    ("step", "stepped"),
)
#: The built-in trainer imports torch before its generation is formed, and joins and loads in one go.
TRAINER_PHASES: tuple[tuple[str, str], ...] = (
    ("detect", "decided"),
    ("replace", "created"),
    ("schedule", "scheduled"),
    ("start", "started"),
    ("import", "processes"),
    ("form", "formed"),
    ("load", "loaded"),
    ("step", "stepped"),
)
#: Rows of the table, with what each says beside its numbers.
LEGEND = {
    "detect": "from the request that deletes the pod until the crew's number goes up (Rowlock: status.generation, "
    "JobSet: status.restarts) or a new pod is created, whichever is seen first",
    "replace": "until the last new pod is created: by Rowlock one, when the old one is gone; by JobSet all of them",
    "schedule": "until the last new pod is seen to have a node",
    "start": "until the first process of the last new container runs",
    "form": "script: until the last rank's process is started (launcher or agent up, membership agreed); trainer: from "
    "the fork in the new pod until all ranks are ready and their store is known",
    "import": "script: until all ranks have imported torch; trainer: from the container's start until its warm parent "
    "has imported torch and forked the rank",
    "join": "script: until all ranks have their process group; trainer: part of load",
    "wrap": "script: until all ranks have wrapped the model in DistributedDataParallel, which imports more of torch "
    "when first used; trainer: imported before the fork",
    "load": "until all ranks have loaded their snapshot or checkpoint",
    "step": "until the first step of the last rank is finished",
}


class MilestoneError(ValueError):
    """A recovery in which something is said to be over that was never seen."""


def phases(deleted: float, milestones: Mapping[str, float], order: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Return the seconds of each phase.

    Args:
        deleted: When the pod was deleted, in Unix time.
        milestones: When each milestone was reached, in Unix time.
        order: Phases with the milestones that end them.

    Raises:
        MilestoneError: A milestone is missing.
    """
    spent: dict[str, float] = {}
    before = deleted
    for phase, milestone in order:
        if milestone not in milestones:
            raise MilestoneError(f"milestone {milestone!r}, which ends phase {phase!r}, was not seen")
        reached = max(before, milestones[milestone])
        # What is over after the last milestone cannot have been waited for.
        reached = min(reached, max(before, milestones[order[-1][1]]))
        spent[phase] = reached - before
        before = reached
    return spent


def last_of_all(moments: Mapping[int, float], ranks: int) -> float | None:
    """Return when the last of all `ranks` reached something; None while one of them has not."""
    return max(moments.values()) if set(moments) >= set(range(ranks)) else None


@dataclass(frozen=True)
class Summary:
    """What trials came to, in seconds."""

    trials: int
    median: float
    best: float
    worst: float


def summary(seconds: Sequence[float]) -> Summary | None:
    """Return median, best and worst; None when there is nothing to tell."""
    if not seconds:
        return None
    return Summary(len(seconds), statistics.median(seconds), min(seconds), max(seconds))


def shares(trials: Sequence[int], rounds: int) -> list[list[int]]:
    """Deal each side's trials to the rounds, as evenly as can be.

    Args:
        trials: Trials of each side.
        rounds: How often the sides take turns.

    Returns:
        For each round, the trials of each side in it.
    """
    return [[count * (one + 1) // rounds - count * one // rounds for count in trials] for one in range(rounds)]
