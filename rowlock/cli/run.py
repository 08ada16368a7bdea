"""`rowlock run`: from a manifest to a finished job on this machine."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from rowlock.api.v1alpha1 import DistributedTrainingJob
from rowlock.local.directory import JobDirectory
from rowlock.local.errors import LocalError
from rowlock.local.faults import Faults, Kill, parse_kill
from rowlock.local.ignored import meaningless
from rowlock.local.life import take_up
from rowlock.local.pods import LocalPods
from rowlock.local.runner import LocalRunner
from rowlock.local.timeline import Timeline
from rowlock.local.view import LineView, LiveView, SteadyView
from rowlock_operator.core.model import Job


@dataclass(frozen=True)
class Outcome:
    """A run that is over."""

    job: Job
    timeline: Timeline
    directory: JobDirectory
    #: Kills that were asked for and did not strike.
    kills_left: list[Kill]


def run_job(
    manifest: DistributedTrainingJob, console: Console, *, state_dir: Path, fresh: bool, kills: list[str], plain: bool
) -> Outcome:
    """Run a job on this machine until it has finished or is left.

    Raises:
        LocalError: This machine stands in the way, or an option does not fit the job.
    """
    faults = Faults(parse_kill(text, manifest.spec) for text in kills)
    directory = JobDirectory(state_dir, manifest)
    directory.lock()
    try:
        return _run_locked(manifest, console, directory, faults, fresh=fresh, plain=plain)
    finally:
        directory.unlock()


def _run_locked(
    manifest: DistributedTrainingJob,
    console: Console,
    directory: JobDirectory,
    faults: Faults,
    *,
    fresh: bool,
    plain: bool,
) -> Outcome:
    if fresh:
        for moved in directory.set_aside():
            _tell(console, f"the last run was moved to {moved}")
    job = _begin(directory, console, state_dir=directory.path.parent.parent)
    if ignored := meaningless(manifest.spec):
        _tell(console, f"without meaning on one machine, and passed over: {', '.join(ignored)}")
    # Forks, so it comes before threads (the live view) and the event loop.
    pods = LocalPods(warm=manifest.spec.trainer is not None)
    try:
        view = SteadyView(LineView(console) if plain or not console.is_terminal else LiveView(console))
        try:
            runner = LocalRunner(job, directory, pods, view, faults)
            job = asyncio.run(runner.run())
        finally:
            view.close()
    finally:
        pods.close()
    _keep_recoveries(directory, runner.timeline, console)
    return Outcome(job, runner.timeline, directory, faults.left)


def _begin(directory: JobDirectory, console: Console, *, state_dir: Path) -> Job:
    """Return the job to run, and make its directory."""
    job = directory.load()
    if job.status.phase == "Succeeded":
        raise LocalError(
            f"{job.name} has already succeeded in {state_dir}; "
            "run it again from the start with --fresh (the old run is moved aside and kept)"
        )
    directory.make()
    job, words = take_up(job, datetime.now(UTC))
    if words:
        _tell(console, words)
    return job


def _keep_recoveries(directory: JobDirectory, timeline: Timeline, console: Console) -> None:
    try:
        directory.add_recoveries([asdict(one) for one in timeline.recoveries])
    except LocalError as error:
        # The training is done and its weights are kept; this is a record of how it went.
        _tell(console, f"warning: {error}")


def _tell(console: Console, words: str) -> None:
    console.print(words, soft_wrap=True)


__all__ = ["LocalError", "Outcome", "run_job"]
