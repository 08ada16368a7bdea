"""The table says what was measured, and what was not."""

from __future__ import annotations

import io

from rich.console import Console

from benchmarks.cluster.report import Outcome, ratios, show
from benchmarks.cluster.session import Trial
from benchmarks.cluster.sides import jobset, rowlock_script


def outcome_pair() -> tuple[Outcome, Outcome]:
    own = Outcome(rowlock_script(), [10.0], [Trial(0, 4.0, {"detect": 1.0}), Trial(1, 6.0, {"detect": 3.0})])
    return own, Outcome(jobset("jobset", "JobSet"), [15.0], [Trial(0, 20.0, {"detect": 8.0})])


def test_ratios_compare_medians_of_the_same_script() -> None:
    (line,) = ratios(outcome_pair())
    assert (
        line == "JobSet takes 4.0 times as long as Rowlock, script from a deleted pod to a step, 1.5 times from apply"
    )


def test_there_is_no_ratio_without_both_sides() -> None:
    own, peer = outcome_pair()
    peer.trials.clear()
    assert ratios([own, peer]) == []
    assert ratios([peer]) == []


def test_what_was_not_measured_is_told() -> None:
    own, peer = outcome_pair()
    peer.trials.clear()
    peer.given_up.append("all ranks did a step: not within 240 s")
    shown = io.StringIO()
    show(Console(file=shown, width=200), [own, peer], nodes=3)
    assert "not measured: JobSet: all ranks did a step: not within 240 s" in shown.getvalue()


def test_a_phase_that_a_side_does_not_have_is_none_in_its_figures() -> None:
    own, _ = outcome_pair()
    figures = own.figures()
    assert figures["phases_median"]["detect"] == 2.0
    assert figures["phases_median"]["wrap"] is None
    assert figures["recovery_seconds"] == {"trials": 2, "median": 5.0, "best": 4.0, "worst": 6.0}
