"""The run as a person sees it: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from datetime import datetime

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rowlock.api.v1alpha1 import JobStatus
from rowlock_operator.core.model import Event, Job, Launcher

#: Seconds between two plain lines in which only the numbers moved.
LINE_SECONDS = 5.0
_STYLES = {"Running": "green", "Succeeded": "bold green", "Failed": "bold red", "Recovering": "yellow"}


def duration(seconds: float) -> str:
    """Return seconds as a person says them: 42 s, 3 min 10 s, 2 h 05 min."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count: int) -> str:
    """Return bytes as a person says them, in powers of 1024."""
    value, unit = float(count), "B"
    for bigger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, bigger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


class LineView:
    """One line for each thing that happens, and one now and then for the numbers."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phase = ""
        self._last = 0.0

    def event(self, event: Event) -> None:
        """Print an event."""
        style = "yellow" if event.type == "Warning" else ""
        self._console.print(_stamp(), Text(f"{event.reason}: {event.message}", style=style), soft_wrap=True)

    def show(self, job: Job, launchers: tuple[Launcher, ...]) -> None:
        """Print a line when the phase changed, or when it is time."""
        status = job.status
        moved = status.phase == "Running" and time.monotonic() - self._last >= LINE_SECONDS
        if status.phase != self._phase or moved:
            self._phase, self._last = status.phase, time.monotonic()
            self._console.print(_stamp(), Text(_one_line(job)), soft_wrap=True)

    def close(self) -> None:
        """End the view."""


class LiveView:
    """A table that stays in place, with events scrolling above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines = LineView(console)
        self._live = Live(console=console, refresh_per_second=8, transient=True)
        self._live.start()

    def event(self, event: Event) -> None:
        """Print an event above the table."""
        self._lines.event(event)

    def show(self, job: Job, launchers: tuple[Launcher, ...]) -> None:
        """Draw the table anew."""
        self._live.update(Group(_head(job), _bar(job.status), _workers(job.status, launchers)))

    def close(self) -> None:
        """Take the table away."""
        self._live.stop()


def _stamp() -> Text:
    return Text(datetime.now().astimezone().strftime("%H:%M:%S"), style="dim")


def _one_line(job: Job) -> str:
    status = job.status
    if status.phase == "Pending" and job.spec.trainer is not None and not status.restarts:
        return "Pending: importing torch, once for all workers; this takes seconds"
    parts = [status.phase, f"workers {status.workers_ready}", f"generation {status.generation}"]
    progress = status.progress
    if progress is not None:
        parts += [f"step {progress.step}/{progress.total_steps}", f"loss {progress.loss}"]
        if status.phase == "Running":
            parts += [f"{progress.samples_per_second} samples/s", f"{duration(progress.seconds_left)} left"]
    if status.last_checkpoint is not None:
        parts.append(f"checkpoint at {status.last_checkpoint.step}")
    if status.restarts:
        parts.append(f"{status.restarts} restarts")
    return ", ".join(parts)


def _head(job: Job) -> Table:
    status, progress = job.status, job.status.progress
    table = Table.grid(padding=(0, 2))
    table.add_row(
        Text(job.name, style="bold"),
        Text(status.phase, style=_STYLES.get(status.phase, "cyan")),
        f"generation {status.generation}",
        f"restarts {status.restarts} ({status.failures.count} failures, {status.preemptions.count} preemptions)",
    )
    if progress is not None:
        checkpoint = status.last_checkpoint
        kept = f"checkpoint at {checkpoint.step} ({size(checkpoint.size_bytes)})" if checkpoint else "no checkpoint yet"
        table.add_row(
            f"step {progress.step}/{progress.total_steps}",
            f"loss {progress.loss}",
            f"{progress.samples_per_second} samples/s",
            f"{duration(progress.seconds_left)} left, {kept}",
        )
    return table


def _bar(status: JobStatus) -> ProgressBar:
    progress = status.progress
    total, done = (progress.total_steps, progress.step) if progress is not None else (1, 0)
    return ProgressBar(total=max(total, 1), completed=done, width=72)


def _workers(status: JobStatus, launchers: tuple[Launcher, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("worker", "place", "generation", "ranks", "last words"):
        table.add_column(title)
    for member in status.workers.members:
        launcher = next((one for one in launchers if one.pod_uid == member.pod_uid), None)
        report = launcher.report if launcher is not None and launcher.connected else None
        table.add_row(
            str(member.index),
            Text(member.phase, style="red" if member.phase == "Lost" else ""),
            str(report.generation) if report is not None else "-",
            report.phase if report is not None else "-",
            report.exits[0].reason[:80] if report is not None and report.exits else "",
        )
    return table
