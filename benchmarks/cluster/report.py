"""The table of a run, with a legend that says what each number means and what it cannot say."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.cluster.phases import LEGEND, summary
from benchmarks.cluster.session import Trial
from benchmarks.cluster.sides import WORKERS, Side


@dataclass
class Outcome:
    """All that was measured of one side."""

    side: Side
    applies: list[float] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    #: What was not measured, and why.
    given_up: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        """Of every trial, from delete to step."""
        return [trial.seconds for trial in self.trials]

    def phase(self, name: str) -> float | None:
        """Median of a phase, None when this side has no such phase."""
        spent = [trial.phases[name] for trial in self.trials if name in trial.phases]
        return statistics.median(spent) if spent else None

    def figures(self) -> dict[str, Any]:
        """For the JSON."""
        applied, recovered = summary(self.applies), summary(self.seconds)
        return {
            "apply_seconds": asdict(applied) if applied else None,
            "recovery_seconds": asdict(recovered) if recovered else None,
            "phases_median": {name: self.phase(name) for name, _ in self.side.phases},
            "applies": self.applies,
            "trials": [asdict(trial) for trial in self.trials],
            "given_up": self.given_up,
        }


def machine() -> dict[str, Any]:
    """What it was measured on."""
    return {"cores": os.cpu_count(), "machine": platform.machine(), "kernel": platform.release()}


def show(console: Console, outcomes: Iterable[Outcome], nodes: int) -> None:
    """Print both tables, the ratios and the legend."""
    outcomes = list(outcomes)
    there = machine()
    console.print(_totals(outcomes))
    console.print(_phases(outcomes))
    for line in ratios(outcomes):
        console.print(line)
    for outcome in outcomes:
        for words in outcome.given_up:
            console.print(f"[red]not measured:[/red] {outcome.side.title}: {words}")
    console.print(f"{WORKERS} workers of one rank each on {nodes} nodes, all on one machine: {there['cores']} cores,")
    console.print(
        f"{there['machine']}, Linux {there['kernel']}. Imports of torch by all pods at once share these cores."
    )
    console.print(
        "The pod is deleted with its grace period, as `kubectl delete pod` does. The script waits 0.05 s in each step; "
        "the built-in trainer trains the example's digits at full speed, so its row is not like for like. Medians of "
        "phases need not add up to the median of the whole. What a phase is:"
    )
    console.print(_legend())


def ratios(outcomes: Iterable[Outcome]) -> list[str]:
    """Say how often the peers' medians hold Rowlock's with the same script."""
    outcomes = list(outcomes)
    own = next((one for one in outcomes if not one.side.is_peer and one.trials), None)
    if own is None:
        return []
    lines = []
    for peer in (one for one in outcomes if one.side.is_peer and one.trials):
        recovery = statistics.median(peer.seconds) / statistics.median(own.seconds)
        apply = statistics.median(peer.applies) / statistics.median(own.applies)
        lines.append(
            f"{peer.side.title} takes {recovery:.1f} times as long as {own.side.title} from a deleted pod to a step, "
            f"{apply:.1f} times from apply"
        )
    return lines


def _totals(outcomes: list[Outcome]) -> Table:
    table = Table(title="Seconds to a step of all ranks")
    table.add_column("")
    for column in ("apply: n", "median", "worst", "pod deleted: n", "best", "median", "worst"):
        table.add_column(column, justify="right")
    for one in outcomes:
        applied, recovered = summary(one.applies), summary(one.seconds)
        cells = [str(applied.trials), f"{applied.median:.1f}", f"{applied.worst:.1f}"] if applied else ["0", "-", "-"]
        cells += (
            [str(recovered.trials), *(f"{value:.1f}" for value in (recovered.best, recovered.median, recovered.worst))]
            if recovered
            else ["0", "-", "-", "-"]
        )
        table.add_row(one.side.title, *cells)
    return table


def _phases(outcomes: list[Outcome]) -> Table:
    table = Table(title="Of a deleted pod: median seconds of each phase")
    for column in ("", *(one.side.title for one in outcomes)):
        table.add_column(column, justify="right" if column else "left", max_width=22)
    for name in LEGEND:
        spent = [one.phase(name) for one in outcomes]
        table.add_row(name, *("-" if value is None else f"{value:.2f}" for value in spent))
    return table


def _legend() -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1))
    for name, words in LEGEND.items():
        table.add_row(f"  [bold]{name}", words)
    return table
