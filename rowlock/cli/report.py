"""How a run ended, in words: what was reached, what it cost, and what to do next."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rowlock.cli.main import EXIT_INTERRUPTED
from rowlock.cli.run import Outcome
from rowlock.local.life import failure
from rowlock.local.view import faults_so_far, size


def report(outcome: Outcome, console: Console, manifest_path: Path) -> int:
    """Print how a run ended and return the exit code of the command."""
    console.print(_summary(outcome))
    for kill in outcome.kills_left:
        words = f"--kill worker={kill.worker},step={kill.step} did not strike: that step was not reached in this run"
        console.print(Text(words, style="yellow"), soft_wrap=True)
    phase = outcome.job.status.phase
    if phase == "Succeeded":
        return _succeeded(outcome, console)
    again = f"rowlock run {shlex.quote(str(manifest_path))}"
    if phase == "Failed":
        return _failed(outcome, console, again)
    how = "has stopped" if phase == "Suspended" else "was stopped at once"
    console.print(Text(f"{outcome.job.name} {how}; {_kept(outcome)}; go on with: {again}"), soft_wrap=True)
    return EXIT_INTERRUPTED


def _succeeded(outcome: Outcome, console: Console) -> int:
    name, place = outcome.job.name, outcome.directory.checkpoints
    console.print(
        Text.assemble((f"{name} finished", "green"), f"; checkpoints and metrics are in {place}"), soft_wrap=True
    )
    return 0


def _failed(outcome: Outcome, console: Console, again: str) -> int:
    status = outcome.job.status
    console.print(Text.assemble((f"{outcome.job.name} failed", "bold red"), f": {failure(status)}"), soft_wrap=True)
    last = status.failures.last
    if last is not None and last.traceback:
        console.print(Text(last.traceback), soft_wrap=True)
    console.print(
        Text(f"logs of each worker are in {outcome.directory.logs}; {_kept(outcome)}; try again with: {again}"),
        soft_wrap=True,
    )
    return 1


def _kept(outcome: Outcome) -> str:
    """Return in words what the next run has to go on from."""
    kept = outcome.job.status.last_checkpoint
    if outcome.job.spec.command is not None:
        return f"what its command saved is in {outcome.directory.checkpoints}"
    if kept is None:
        return "there is no checkpoint yet, so it will start over"
    return f"its last checkpoint is that of step {kept.step}"


def _summary(outcome: Outcome) -> Table:
    status = outcome.job.status
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    progress, checkpoint = status.progress, status.last_checkpoint
    rows: list[tuple[str, str]] = []
    if progress is not None:
        rows += [("step", f"{progress.step} of {progress.total_steps}"), ("loss", progress.loss)]
        rows += [(f"held-out {name}", value) for name, value in progress.evaluation.items()]
    if checkpoint is not None:
        rows.append(("last checkpoint", f"step {checkpoint.step}, {size(checkpoint.size_bytes)}"))
    rows.append(("restarts", faults_so_far(status)))
    rows += [
        (
            f"recovery {one.generation}",
            f"{one.seconds:.2f} s from the loss to the next step, {one.words} steps done again",
        )
        for one in outcome.timeline.recoveries
        if one.seconds is not None
    ]
    if progress is not None:
        rows.append(("throughput", f"{progress.samples_per_second} samples/s"))
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    return table
