"""What many jobs cost the operator: from `apply` to Running, then one fault in each job.

A real API server and etcd, the real operator in a process of its own, and played nodes and launchers, all on
this machine. Four numbers for each stage: the operator's CPU seconds, its requests to the API server by verb,
the watch events it took in, and the wall time. Wall time includes the players, which share the machine's
cores with the operator and are the slower side; CPU and requests are the operator's alone.

    python -m benchmarks.operator_scale --jobs 200 --workers 4 --json operator_scale.json
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.support.control_plane import CRD_PATH, ControlPlane
from tests.support.operator_world import JOBS, World, job_manifest

#: How long a stage may take, in seconds.
STAGE_SECONDS = 540.0
#: How often the wait for a stage's end asks, in seconds: a list of all jobs, which also costs the API server.
ASK_SECONDS = 1.0
NAMESPACE = "scale"


@dataclass(frozen=True)
class Stage:
    """What one stage cost the operator."""

    name: str
    wall_seconds: float
    cpu_seconds: float
    looks: int
    requests: dict[str, int]
    watch_events: int


class Meter:
    """The operator's own numbers, between two readings."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._samples = world.operator.metrics()
        self._started = time.monotonic()

    def read(self, name: str) -> Stage:
        """Return what was spent since this meter was made."""
        wall = time.monotonic() - self._started
        now = self._world.operator.metrics()
        spent = {key: value - self._samples.get(key, 0.0) for key, value in now.items()}

        def total(metric: str) -> float:
            return sum(value for (one, _), value in spent.items() if one == metric)

        requests: dict[str, int] = {}
        for (metric, labels), value in spent.items():
            if metric == "rowlock_api_requests_total" and value:
                told = dict(labels)
                kind = f"{told['verb']} {told['resource']}"
                requests[kind] = requests.get(kind, 0) + int(value)
        return Stage(
            name,
            round(wall, 1),
            round(total("process_cpu_seconds_total"), 2),
            int(total("rowlock_reconciles_total")),
            dict(sorted(requests.items())),
            int(total("rowlock_watch_events_total")),
        )


def measure(jobs: int, workers: int) -> list[Stage]:
    """Run the stages; raises TimeoutError when one does not end."""
    with ControlPlane.start([CRD_PATH]) as plane, tempfile.TemporaryDirectory() as directory:
        plane.client().create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}}).ok()
        world = World(plane, NAMESPACE, Path(directory), log_level="info")
        world.operator.start()
        try:
            return _stages(world, jobs, workers)
        finally:
            world.close()


def _stages(world: World, jobs: int, workers: int) -> list[Stage]:
    trainer = {"model": {"mlp": {}}, "data": "digits", "globalBatchSize": 16 * workers, "steps": 1000}
    names = [f"job-{number}" for number in range(jobs)]

    def apply() -> None:
        for name in names:
            world.apply(job_manifest(name, workers=workers, trainer=trainer))
        _until(world, lambda status: status.get("phase") == "Running")

    def fault() -> None:
        for name in names:
            world.kubelet.fail(world.pod(name, workers - 1), code=1)
        _until(world, lambda status: status.get("phase") == "Running" and status["generation"] == 2)

    def rest() -> None:
        time.sleep(10)  # what is measured is that nothing happens

    stages = []
    for name, work in (("apply to Running", apply), ("one fault in each", fault), ("10 s at rest", rest)):
        meter = Meter(world)
        work()
        stages.append(meter.read(name))
    counted = {job["status"]["failures"]["count"] for job in world.api.list(world.path(JOBS))}
    assert counted == {1}, f"failures counted: {counted}"
    return stages


def _until(world: World, condition: Callable[[dict[str, Any]], bool]) -> None:
    deadline = time.monotonic() + STAGE_SECONDS
    while True:
        waiting = [job for job in world.api.list(world.path(JOBS)) if not condition(job.get("status") or {})]
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(waiting)} jobs still wait, the first: {json.dumps(waiting[0].get('status'))}")
        time.sleep(ASK_SECONDS)


def show(stages: list[Stage], jobs: int, workers: int) -> None:
    """Print the table."""
    table = Table(title=f"{jobs} jobs of {workers} workers, {platform.machine()}, Python {platform.python_version()}")
    for column in ("stage", "wall s", "operator CPU s", "CPU ms/job", "looks", "requests", "per job", "watch events"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in stages:
        requests = sum(stage.requests.values())
        table.add_row(
            stage.name,
            f"{stage.wall_seconds:.1f}",
            f"{stage.cpu_seconds:.2f}",
            f"{1000 * stage.cpu_seconds / jobs:.1f}",
            str(stage.looks),
            str(requests),
            f"{requests / jobs:.1f}",
            str(stage.watch_events),
        )
    console = Console()
    console.print(table)
    for stage in stages:
        told = ", ".join(f"{count} {kind}" for kind, count in stage.requests.items())
        console.print(f"{stage.name}: {told or 'no requests'}")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--json", type=Path, help="where the numbers are written")
    options = parser.parse_args()
    stages = measure(options.jobs, options.workers)
    show(stages, options.jobs, options.workers)
    if options.json is not None:
        result = {"jobs": options.jobs, "workers": options.workers, "stages": [asdict(stage) for stage in stages]}
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
