"""From a cluster with nothing on it to a finished job that lost two workers on its way.

Installs the chart on the cluster of this machine (`make cluster`), applies examples/digits.yaml, deletes one worker's
pod and kills another one's container, shows the job as kubectl does while it recovers, and prints what it cost.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.table import Table

from tests.e2e.faults import delete_pod, kill_container
from tests.e2e.jobs import Job
from tests.e2e.site import Site
from tests.support.cluster.attach import attach

if TYPE_CHECKING:
    from collections.abc import Callable

MANIFEST = Path(__file__).with_name("digits.yaml")
NAMESPACE = "rowlock-demo"
#: Four pods import torch at once; on two cores that takes most of a minute, and again for each that is replaced.
DEADLINE_SECONDS = 600.0
#: The example's own 600 are over in seconds, before anything could befall it.
STEPS = 3000
#: A line of `kubectl get` for this many steps, beside those in which something changes.
STEPS_A_LINE = 500


@dataclass(frozen=True)
class Fault:
    """What befalls the crew, and when."""

    step: int
    words: str
    befall: Callable[[Job], None]


FAULTS = (
    Fault(600, "kubectl delete pod digits-worker-1", lambda job: delete_pod(job, 1)),
    Fault(1800, "SIGKILL for the container of worker 2", lambda job: kill_container(job, 2)),
)


class Window:
    """What somebody with kubectl sees, a line whenever it has changed."""

    def __init__(self, job: Job, console: Console) -> None:
        self._job = job
        self._console = console
        self._shown: list[object] = []

    def look(self) -> dict[str, Any]:
        """Show the job's line if there is news; return its status."""
        header, line = self._job.site.cluster.kubectl("get", "dtj", "-n", NAMESPACE, self._job.name).splitlines()
        status = self._job.status
        # Phase, workers and restarts; between them are step and loss, which are always news, and at the end the age.
        words = line.split()
        news = [*words[1:3], words[-2], step_of(status) // STEPS_A_LINE]
        if news != self._shown:
            for text in [line] if self._shown else [header, line]:
                self._console.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)
            self._shown = news
        return status

    def until(self, holds: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Look on until it is so."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            status = self.look()
            if holds(status):
                return status
            if status.get("phase") == "Failed":
                sys.exit(f"the job failed: {status.get('conditions')}")
            time.sleep(0.25)
        sys.exit(f"in {DEADLINE_SECONDS:.0f} s it did not come to this: {what}\n{self._job.diagnosis()}")


def manifest() -> str:
    """Return the example, longer, and with a volume that workers on several nodes can mount."""
    document = yaml.safe_load(MANIFEST.read_text())
    document["spec"]["trainer"]["steps"] = STEPS
    document["spec"]["checkpoint"]["storage"]["accessMode"] = "ReadWriteMany"
    return yaml.safe_dump(document, sort_keys=False)


def step_of(status: dict[str, Any]) -> int:
    """Return the step that all ranks have finished."""
    return int((status.get("progress") or {}).get("step", 0))


def suffer(window: Window, job: Job, fault: Fault, console: Console, table: Table) -> None:
    """Bring a fault about, look on until training is beyond where it was, and note what it cost."""
    before = window.until(lambda status: step_of(status) >= fault.step, f"step {fault.step}")
    console.print(f"[bold red]{fault.words}[/], at step {step_of(before)}")
    began = time.monotonic()
    fault.befall(job)
    window.until(lambda status: status["restarts"] > before["restarts"], "the fault is noticed")
    reached = step_of(before)
    after = window.until(
        lambda status: status.get("resumedFromStep") is not None and step_of(status) > reached, "training goes on"
    )
    counted = [kind for kind in ("failures", "preemptions") if after[kind]["count"] > before[kind]["count"]]
    seconds = time.monotonic() - began
    table.add_row(fault.words, ", ".join(counted), str(after["resumedFromStep"]), f"{seconds:.1f}")


def main() -> int:
    """Run it all."""
    console = Console()
    cluster = attach()
    if cluster is None:
        sys.exit("no cluster runs on this machine: start one with `make cluster`")
    console.rule("[bold]1. helm upgrade --install rowlock charts/rowlock --namespace rowlock-system")
    site = Site(cluster)
    site.install()
    site.await_leader()
    console.print(f"{len(site.operators())} operators run on {len(cluster.node_names)} nodes, and one of them leads")

    console.rule(f"[bold]2. examples/digits.yaml in namespace {NAMESPACE}, {STEPS} steps, ReadWriteMany")
    if site.api.get(f"/api/v1/namespaces/{NAMESPACE}").status == 404:
        cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("delete", "dtj/digits", "pvc/digits-checkpoints", "-n", NAMESPACE, "--ignore-not-found")
    began = time.monotonic()
    cluster.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=manifest())
    job = Job(site, NAMESPACE, "digits")
    window = Window(job, console)
    table = Table(title="What it cost", title_style="bold")
    for column in ("fault", "counted under", "went on from step", "seconds to the next new step"):
        table.add_column(column)
    for fault in FAULTS:
        suffer(window, job, fault, console, table)
    status = window.until(lambda status: status.get("phase") == "Succeeded", "the job has succeeded")

    console.rule("[bold]3. the end")
    console.print(table)
    accuracy = status["progress"]["evaluation"].get("accuracy", "-")
    console.print(f"{step_of(status)} steps in {time.monotonic() - began:.0f} s, held-out accuracy {accuracy}")
    console.print(f"The cluster stays: export KUBECONFIG={cluster.kubeconfig}", soft_wrap=True)
    console.print(f"  kubectl describe dtj digits --namespace {NAMESPACE}")
    console.print("Remove it with all that is on it: make cluster-down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
