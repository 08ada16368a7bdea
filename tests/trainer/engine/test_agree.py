"""All ranks come to one decision after one step, whoever wished it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from rowlock_trainer.engine.agree import MAX_STEPS, VOTE_INTERVAL, Agreement, Verdict
from tests.trainer.engine.crew import WarmParent, together
from tests.trainer.engine.test_groups import build


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def votes(agreement: Agreement, clock: Clock, step_seconds: float, steps: int) -> list[int]:
    """Steps after which was voted."""
    voted = []
    for step in range(1, steps + 1):
        agreement.before(step, stop=False, save=False)
        clock.now += step_seconds
        if agreement.due(step):
            agreement.after(step, stop=False, save=False)
            voted.append(step)
    return voted


def test_steps_longer_than_the_interval_are_all_voted_on() -> None:
    clock = Clock()
    agreement = Agreement(None, leader=True, step=0, clock=clock)
    assert votes(agreement, clock, step_seconds=2 * VOTE_INTERVAL, steps=5) == [1, 2, 3, 4, 5]


def test_votes_on_short_steps_move_apart_to_the_interval_by_doubling() -> None:
    clock = Clock()
    agreement = Agreement(None, leader=True, step=0, clock=clock)
    voted = votes(agreement, clock, step_seconds=VOTE_INTERVAL / 10.5, steps=60)
    assert voted[:5] == [1, 3, 7, 15, 25]
    assert {late - early for early, late in itertools.pairwise(voted[3:])} == {10}


def test_votes_are_never_further_apart_than_the_most() -> None:
    clock = Clock()
    agreement = Agreement(None, leader=True, step=0, clock=clock)
    voted = votes(agreement, clock, step_seconds=0.0, steps=5 * MAX_STEPS)
    assert max(late - early for early, late in itertools.pairwise(voted)) == MAX_STEPS


def test_a_resumed_crew_votes_after_its_first_step() -> None:
    assert Agreement(None, leader=True, step=40).due(41)


def run(options: dict[str, Any]) -> int:
    """Each rank has a clock of its own, ranks 1 and 2 a wish of their own."""
    rank = options["rank"]
    groups = build(options, 1, options["world_size"])
    clock = Clock()
    agreement = Agreement(groups.control, leader=rank == 0, step=0, clock=clock)
    decisions = []
    for step in range(1, 201):
        wishes = {"stop": rank == 1 and step > 120, "save": rank == 2 and step > 50}
        agreement.before(step, **wishes)
        clock.now += 0.001 * (rank + 1)
        if agreement.due(step):
            verdict = agreement.after(step, **wishes)
            decisions.append([step, verdict.stop, verdict.save])
            if verdict.stop:
                break
    Path(options["result"]).write_text(json.dumps(decisions))
    groups.drop()
    return 0


def test_ranks_with_different_clocks_and_wishes_take_the_same_decisions(parent: WarmParent, tmp_path: Path) -> None:
    ranks = together(parent, tmp_path, f"{__name__}:run", 3)
    assert ranks[0] == ranks[1] == ranks[2]
    assert {(stop, save) for step, stop, save in ranks[0] if step <= 50} == {(False, False)}
    last, stop, _ = ranks[0][-1]
    assert last > 120
    assert stop
    assert all(save for step, _, save in ranks[0] if step > 50)


def test_a_crew_of_one_decides_alone() -> None:
    agreement = Agreement(None, leader=True, step=0)
    assert agreement.after(1, stop=True, save=False) == Verdict(stop=True)
    assert agreement.after(agreement_step(agreement), stop=False, save=True) == Verdict(save=True)


def test_on_short_steps_a_wish_counts_from_the_vote_that_opens_after_it() -> None:
    clock = Clock()
    agreement = Agreement(None, leader=True, step=0, clock=clock)
    assert votes(agreement, clock, step_seconds=0.01, steps=3) == [1, 3]
    for step in range(4, agreement_step(agreement)):
        assert agreement.after(step, stop=True, save=False) == Verdict()
    due = agreement_step(agreement)
    agreement.before(due, stop=False, save=False)
    assert agreement.after(due, stop=True, save=False) == Verdict(), "the vote was open before the wish"
    due = agreement_step(agreement)
    agreement.before(due, stop=True, save=False)
    assert agreement.after(due, stop=True, save=False) == Verdict(stop=True)


def test_on_long_steps_a_wish_made_during_the_step_counts_at_its_end() -> None:
    clock = Clock()
    agreement = Agreement(None, leader=True, step=0, clock=clock)
    assert votes(agreement, clock, step_seconds=2 * VOTE_INTERVAL, steps=2) == [1, 2]
    agreement.before(3, stop=False, save=False)
    assert agreement.after(3, stop=True, save=False) == Verdict(stop=True)


def agreement_step(agreement: Agreement) -> int:
    """The next step that is voted on."""
    return next(step for step in itertools.count(1) if agreement.due(step))
