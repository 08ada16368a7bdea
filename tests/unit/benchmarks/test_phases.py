"""Phases of a recovery add up, whatever order the news came in."""

from __future__ import annotations

import pytest

from benchmarks.cluster.phases import (
    LEGEND,
    SCRIPT_PHASES,
    TRAINER_PHASES,
    MilestoneError,
    last_of_all,
    phases,
    shares,
    summary,
)

ORDER = (("detect", "decided"), ("replace", "created"), ("start", "started"), ("step", "stepped"))


def test_a_phase_lasts_from_the_milestone_before_it_to_its_own() -> None:
    seen = {"decided": 100.5, "created": 102.0, "started": 105.0, "stepped": 109.0}
    assert phases(100.0, seen, ORDER) == {"detect": 0.5, "replace": 1.5, "start": 3.0, "step": 4.0}


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param({"decided": 103.0, "created": 102.0, "started": 105.0, "stepped": 109.0}, id="decided late"),
        pytest.param({"decided": 99.0, "created": 102.0, "started": 105.0, "stepped": 109.0}, id="before the deletion"),
        pytest.param({"decided": 101.0, "created": 102.0, "started": 111.0, "stepped": 109.0}, id="start heard late"),
        pytest.param({"decided": 112.0, "created": 111.0, "started": 110.0, "stepped": 109.0}, id="all heard late"),
    ],
)
def test_no_phase_is_negative_and_all_of_them_add_up_to_the_whole(seen: dict[str, float]) -> None:
    spent = phases(100.0, seen, ORDER)
    assert all(seconds >= 0 for seconds in spent.values())
    assert sum(spent.values()) == pytest.approx(9.0)


def test_a_milestone_that_was_not_seen_is_named_and_not_guessed() -> None:
    with pytest.raises(MilestoneError, match="'started', which ends phase 'start'"):
        phases(100.0, {"decided": 101.0, "created": 102.0, "stepped": 109.0}, ORDER)


def test_the_last_rank_counts_and_a_missing_one_is_waited_for() -> None:
    assert last_of_all({0: 5.0, 1: 9.0, 2: 7.0}, 3) == 9.0
    assert last_of_all({0: 5.0, 2: 7.0}, 3) is None
    assert last_of_all({}, 1) is None


def test_a_summary_has_the_worst_trial_in_it() -> None:
    found = summary([3.0, 1.0, 40.0])
    assert found is not None
    assert (found.trials, found.median, found.best, found.worst) == (3, 3.0, 1.0, 40.0)
    assert summary([]) is None


@pytest.mark.parametrize(("trials", "rounds"), [([20, 5], 2), ([20, 5], 3), ([1, 0], 4), ([7], 7)])
def test_every_trial_is_dealt_to_one_round_and_rounds_differ_by_one_at_most(trials: list[int], rounds: int) -> None:
    dealt = shares(trials, rounds)
    assert len(dealt) == rounds
    for side, count in enumerate(trials):
        column = [one[side] for one in dealt]
        assert sum(column) == count
        assert max(column) - min(column) <= 1


def test_the_legend_explains_every_phase_that_a_side_has() -> None:
    assert {name for name, _ in (*SCRIPT_PHASES, *TRAINER_PHASES)} == set(LEGEND)
