"""`rowlock run`: from a manifest to a finished job on this machine."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rowlock.api.v1alpha1 import DistributedTrainingJob
from rowlock.local.directory import JobDirectory, LocalError
from rowlock.local.faults import parse_kill
from rowlock.local.pods import LocalPods
from rowlock.local.runner import LocalRunner
from rowlock.local.timeline import Timeline
from rowlock.local.view import LineView, LiveView, size
from rowlock_operator.core.model import Job

#: Exit code of a run left with ctrl-C, as shells give it: 128 + SIGINT.
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Outcome:
    """A run that is over."""

    job: Job
    timeline: Timeline
    directory: JobDirectory
    checkpoints: Path


def run_job(
    manifest: DistributedTrainingJob, console: Console, *, state_dir: Path, fresh: bool, kills: list[str], plain: bool
) -> Outcome:
    """Run a job on this machine until it has finished or is left.

    Raises:
        LocalError: This machine stands in the way, or an option does not fit the job.
    """
    faults = [parse_kill(text, manifest.spec.workers) for text in kills]
    directory = JobDirectory(state_dir, manifest.metadata.name)
    directory.lock()
    if fresh:
        directory = _start_over(directory, console)
    # Forks, so it comes before threads (the live view) and the event loop.
    pods = LocalPods(warm=manifest.spec.trainer is not None)
    view = LineView(console) if plain or not console.is_terminal else LiveView(console)
    try:
        runner = LocalRunner(manifest, directory, pods, view, faults)
        job = asyncio.run(runner.run())
        directory.write_recoveries([asdict(one) for one in runner.timeline.recoveries])
    finally:
        view.close()
        directory.unlock()
    return Outcome(job, runner.timeline, directory, directory.checkpoints(manifest))


def _start_over(directory: JobDirectory, console: Console) -> JobDirectory:
    had_run = (directory.path / "job.json").exists()
    directory.unlock()
    moved = directory.set_aside()
    if had_run:
        console.print(f"the last run was moved to {moved}", soft_wrap=True)
    fresh = JobDirectory(directory.path.parent, directory.path.name)
    fresh.lock()
    return fresh


def report(outcome: Outcome, console: Console, manifest_path: Path) -> int:
    """Print how a run ended and return the exit code of the command."""
    status = outcome.job.status
    console.print(_summary(outcome))
    if status.phase == "Succeeded":
        console.print(
            f"[green]{outcome.job.name} finished[/]; checkpoints and metrics are in {outcome.checkpoints}",
            soft_wrap=True,
        )
        return 0
    if status.phase == "Failed":
        failed = next((one for one in status.conditions if one.type == "Failed"), None)
        console.print(f"[bold red]{outcome.job.name} failed[/]: {failed.message if failed else 'no reason known'}")
        last = status.failures.last
        if last is not None and last.traceback:
            console.print(last.traceback, markup=False, highlight=False, soft_wrap=True)
        console.print(f"logs of each worker are in {outcome.directory.logs}; checkpoints stay", soft_wrap=True)
        return 1
    if outcome.job.spec.suspend and status.phase == "Suspended":
        kept = status.last_checkpoint
        at = f" at step {kept.step}" if kept is not None else ""
        console.print(
            f"{outcome.job.name} is saved{at} and stopped; go on with: rowlock run {manifest_path}", soft_wrap=True
        )
    else:
        console.print(f"{outcome.job.name} was stopped at once; go on from its last checkpoint with the same command")
    return EXIT_INTERRUPTED


def _summary(outcome: Outcome) -> Table:
    status = outcome.job.status
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    progress, checkpoint = status.progress, status.last_checkpoint
    if progress is not None:
        table.add_row("step", f"{progress.step} of {progress.total_steps}")
        table.add_row("loss", progress.loss)
        for name, value in progress.evaluation.items():
            table.add_row(f"held-out {name}", value)
    if checkpoint is not None:
        table.add_row("last checkpoint", f"step {checkpoint.step}, {size(checkpoint.size_bytes)}")
    table.add_row("restarts", f"{status.failures.count} failures, {status.preemptions.count} preemptions")
    for recovery in outcome.timeline.recoveries:
        if recovery.seconds is not None:
            table.add_row(
                f"recovery {recovery.generation}",
                f"{recovery.seconds:.2f} s from the loss to the next step, {recovery.steps_lost} steps done again",
            )
    if status.start_time is not None and progress is not None:
        table.add_row("throughput", f"{progress.samples_per_second} samples/s")
    return table


def already_finished(outcome_directory: JobDirectory, manifest: DistributedTrainingJob) -> Job | None:
    """Return the job if an earlier run of it has finished, well or not."""
    if not (outcome_directory.path / "job.json").exists():
        return None
    job = outcome_directory.load(manifest)
    return job if job.status.phase in ("Succeeded", "Failed") else None


__all__ = ["EXIT_INTERRUPTED", "LocalError", "Outcome", "already_finished", "report", "run_job"]
