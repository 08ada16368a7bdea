"""The run as a person sees it: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rowlock.api.v1alpha1 import JobStatus
from rowlock_operator.core.model import Event, Job, Launcher

log = logging.getLogger(__name__)

#: Widest a table or a bar gets, in columns: what every terminal has.
COLUMNS = 80
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


def faults_so_far(status: JobStatus) -> str:
    """Return how many faults there were, as a person says it: 1 failure, 0 preemptions."""
    counts = (("failure", status.failures.count), ("preemption", status.preemptions.count))
    return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts)


class View(Protocol):
    """Where a run is shown."""

    def event(self, event: Event) -> None:
        """Show something that happened."""

    def show(self, job: Job, launchers: tuple[Launcher, ...]) -> None:
        """Show how things stand."""

    def close(self) -> None:
        """End the view."""


class SteadyView:
    """Shows through another view for as long as that can show: training is not ended by how it is looked at."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._broken = False

    def event(self, event: Event) -> None:
        """Show something that happened."""
        self._try(lambda: self._view.event(event))

    def show(self, job: Job, launchers: tuple[Launcher, ...]) -> None:
        """Show how things stand."""
        self._try(lambda: self._view.show(job, launchers))

    def close(self) -> None:
        """End the view."""
        self._broken = False
        self._try(self._view.close)

    def _try(self, act: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            act()
        except Exception:
            self._broken = True
            log.exception("the view broke; training goes on without it")


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
        self._lines = LineView(console)
        self._live = Live(console=console, refresh_per_second=8, transient=True)
        self._live.start()

    def event(self, event: Event) -> None:
        """Print an event above the table."""
        self._lines.event(event)

    def show(self, job: Job, launchers: tuple[Launcher, ...]) -> None:
        """Draw the table anew."""
        self._live.update(frame(job, launchers))

    def close(self) -> None:
        """Take the table away."""
        self._live.stop()


def frame(job: Job, launchers: tuple[Launcher, ...]) -> Group:
    """Return how things stand, for `COLUMNS` columns or fewer: a line is cut rather than broken."""
    return Group(*_head(job), _bar(job.status), _workers(job.status, launchers))


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
        parts.append(faults_so_far(status))
    return ", ".join(parts)


def _head(job: Job) -> list[Text]:
    """Return what is true of the whole job: three lines."""
    status, progress, checkpoint = job.status, job.status.progress, job.status.last_checkpoint
    lines = [
        Text.assemble(
            (job.name, "bold"),
            "  ",
            (status.phase, _STYLES.get(status.phase, "cyan")),
            f"  generation {status.generation}",
        )
    ]
    if status.phase == "Pending" and job.spec.trainer is not None and progress is None:
        lines.append(Text("importing torch, once for all workers; this takes seconds"))
    if progress is not None:
        lines.append(
            Text(
                f"step {progress.step}/{progress.total_steps}  loss {progress.loss}  "
                f"{progress.samples_per_second} samples/s  {duration(progress.seconds_left)} left"
            )
        )
    kept = f"checkpoint at {checkpoint.step} ({size(checkpoint.size_bytes)})" if checkpoint else "no checkpoint yet"
    lines.append(Text(f"{kept}  {faults_so_far(status)}", style="dim"))
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return lines


def _bar(status: JobStatus) -> Table:
    progress = status.progress
    total, done = (progress.total_steps, progress.step) if progress is not None else (1, 0)
    # In a table, which a narrow terminal narrows; a bar alone keeps its width.
    table = Table.grid()
    table.add_column(max_width=COLUMNS)
    table.add_row(ProgressBar(total=max(total, 1), completed=done))
    return table


def _workers(status: JobStatus, launchers: tuple[Launcher, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    # As wide as the longest word each may hold; what a rank said last gets the rest.
    for title, width in (("worker", 6), ("place", 7), ("generation", 10), ("ranks", 8), ("last words", 0)):
        table.add_column(title, no_wrap=True, overflow="ellipsis", min_width=width)
    found = {one.pod_uid: one for one in launchers}
    for member in status.workers.members:
        launcher = found.get(member.pod_uid)
        report = launcher.report if launcher is not None and launcher.connected else None
        table.add_row(
            Text(str(member.index)),
            Text(member.phase, style="red" if member.phase == "Lost" else ""),
            Text(str(report.generation) if report is not None else "-"),
            Text(report.phase if report is not None else "-"),
            Text(report.exits[0].reason if report is not None and report.exits else ""),
        )
    return table
