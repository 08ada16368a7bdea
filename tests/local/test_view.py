"""The live table fits a terminal of 80 columns, shows what is said as it is said, and never stops a run."""

from __future__ import annotations

import io
from datetime import UTC, datetime

from rich.console import Console

from rowlock.api.v1alpha1 import JobSpec, JobStatus
from rowlock.local.view import LineView, SteadyView, frame
from rowlock.protocol import RankExit, Report
from rowlock_operator.core.model import Event, Job, Launcher

NAME = "n" * 50


def job() -> Job:
    members = [{"index": index, "podUid": f"uid-{index}", "phase": "Running"} for index in range(4)]
    status = JobStatus.model_validate(
        {
            "phase": "Recovering",
            "generation": 12345,
            "workers": {"wanted": 4, "members": members},
            "progress": {
                "step": 123456789,
                "totalSteps": 1000000000,
                "percent": 12,
                "epoch": "1.0",
                "loss": "1.234567",
                "samplesPerSecond": "123456.7",
                "secondsLeft": 987654,
                "time": "2030-01-01T00:00:00Z",
            },
            "lastCheckpoint": {"step": 123456700, "name": "x", "sizeBytes": 1 << 40, "time": "2030-01-01T00:00:00Z"},
        }
    )
    return Job("default", NAME, "uid", 1, JobSpec.model_validate({"workers": 4, "command": ["x"]}), status)


def drawn(columns: int) -> list[str]:
    console = Console(file=io.StringIO(), width=columns, force_terminal=True, color_system=None)
    exits = (RankExit(0, 1, 5, "a[/b] [red]reason[/] " + "that is long " * 20, 1.0),)
    launchers = tuple(
        Launcher(index, f"uid-{index}", True, datetime.now(UTC), Report(1, "ended", exits=exits)) for index in range(4)
    )
    console.print(frame(job(), launchers))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_line_is_cut_and_never_broken() -> None:
    for columns in (80, 40, 20):
        lines = drawn(columns)
        assert len(lines) == 3 + 1 + 1 + 4  # head, bar, titles, one for each worker
        assert max(len(line) for line in lines) <= columns


def test_all_that_matters_is_there_in_80_columns() -> None:
    text = "\n".join(drawn(80))
    for words in (
        NAME,
        "Recovering",
        "generation 12345",
        "123456789/1000000000",
        "samples/s",
        "left",
        "1.0 TiB",
        "ranks",
    ):
        assert words in text, text
    assert "a[/b] [red]reason[/] that" in text


class Broken:
    """A view on a terminal that has gone mad."""

    shown = 0

    def event(self, event: Event) -> None:
        self.shown += 1
        raise ValueError("no")

    def show(self, job: Job, launchers: tuple[Launcher, ...]) -> None:
        self.shown += 1

    def close(self) -> None:
        raise OSError("gone")


def test_a_view_that_breaks_is_not_used_any_more_and_stops_nothing() -> None:
    broken = Broken()
    view = SteadyView(broken)
    view.event(Event("Normal", "A", "b"))
    view.show(job(), ())
    view.close()
    assert broken.shown == 1


def test_an_event_is_printed_as_it_was_said() -> None:
    console = Console(file=io.StringIO(), width=80)
    LineView(console).event(Event("Warning", "RankFailed", "list[int] [/x] [bold]y[/]"))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().endswith("RankFailed: list[int] [/x] [bold]y[/]\n")
