"""What a lost pod costs on a cluster: Rowlock, and torchrun in a JobSet, side by side in one run.

Two figures of each side: from apply to the first step of all ranks, and from the deletion of one worker's pod to the
next step of all ranks, the latter split into phases. The sides take turns, so that whatever else the machine does
befalls all of them. Needs a running cluster (`make cluster`); Rowlock is installed on it if it is not there.

    python -m benchmarks.cluster --trials 20 --peer-trials 5 --json .rowlock/bench/cluster.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks.cluster.peer import VERSION, jobset_controller
from benchmarks.cluster.phases import MilestoneError, shares
from benchmarks.cluster.report import Outcome, machine, show
from benchmarks.cluster.session import Session, sweep
from benchmarks.cluster.sides import TUNED, WORKERS, Side, jobset, rowlock_script, rowlock_trainer
from tests.e2e.site import TRAINER_IMAGE, Site
from tests.support.cluster.attach import attach
from tests.support.cluster.interface import Cluster

#: In the order of the table and of every round.
SIDES: dict[str, Callable[[], Side]] = {
    "rowlock_script": rowlock_script,
    "rowlock_trainer": rowlock_trainer,
    "jobset": lambda: jobset("jobset", f"JobSet {VERSION} + torchrun, same script"),
    "jobset_tuned": lambda: jobset("jobset_tuned", "the same, rendezvous tuned", [TUNED]),
}
#: Columns of a table that goes into a file, as wide as this project's lines.
_FILE_WIDTH = 120


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20, help="deleted pods on each of Rowlock's sides")
    parser.add_argument("--peer-trials", type=int, default=5, help="deleted pods on each side that is not Rowlock's")
    parser.add_argument("--rounds", type=int, default=2, help="how often the sides take turns, with new jobs")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="which to measure")
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args()
    cluster = attach()
    if cluster is None:
        sys.exit("no cluster runs on this machine: start one with `make cluster`")
    # Asked to end, it shows what there is and takes away what it created; a second time, only the next run does that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: sys.exit(f"ended by {signal.Signals(received).name}"))

    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    outcomes = [Outcome(SIDES[key]()) for key in options.sides]
    sweep(cluster)
    _install(cluster)
    dealt = shares([options.peer_trials if one.side.is_peer else options.trials for one in outcomes], options.rounds)
    try:
        with contextlib.ExitStack() as stack:
            if any(one.side.is_peer for one in outcomes):
                stack.enter_context(jobset_controller(cluster))
            console.print("one job that is not measured, so that no side has to read torch from a cold disk")
            _warm_up(cluster)
            for turn, counts in enumerate(dealt, start=1):
                console.rule(f"round {turn} of {options.rounds}")
                for outcome, count in zip(outcomes, counts, strict=True):
                    _take_turn(cluster, outcome, count, console)
    finally:
        show(console, outcomes, len(cluster.node_names))
        if options.json is not None:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            figures = {one.side.key: one.figures() for one in outcomes}
            options.json.write_text(json.dumps({"machine": machine(), "sides": figures}, indent=1))
    if any(one.given_up for one in outcomes):
        sys.exit(1)


def _install(cluster: Cluster) -> None:
    """Install Rowlock unless it is there: a cluster that somebody prepared is measured as it is."""
    site = Site(cluster)
    if not site.operators():
        cluster.load([TRAINER_IMAGE])
        site.install()
    site.await_leader()


def _warm_up(cluster: Cluster) -> None:
    session = Session(cluster, rowlock_script())
    try:
        session.open()
    finally:
        session.close()


def _take_turn(cluster: Cluster, outcome: Outcome, count: int, console: Console) -> None:
    """Run one job of one side and delete `count` of its pods; what goes wrong is told and costs only this turn."""
    if count == 0:
        return
    session = Session(cluster, outcome.side)
    try:
        outcome.applies.append(session.open())
        console.print(f"{outcome.side.title}: first step after {outcome.applies[-1]:.1f} s")
        for _ in range(count):
            trial = session.trial(len(outcome.trials) % WORKERS)
            outcome.trials.append(trial)
            split = "  ".join(f"{name} {spent:.2f}" for name, spent in trial.phases.items())
            console.print(f"  worker {trial.worker} deleted: next step after {trial.seconds:.1f} s  [dim]{split}")
    except (TimeoutError, MilestoneError, RuntimeError) as error:
        outcome.given_up.append(str(error))
        console.print(f"[red]{outcome.side.title}: {error}")
    finally:
        session.close()


if __name__ == "__main__":
    main()
