"""Rowlock as it is installed on the cluster: the chart, and the way to the operator's pods."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rowlock import __version__
from tests.support.go_programs import program
from tests.support.kube_api import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.cluster.interface import Cluster
    from tests.support.kube_api import JsonObject, KubeApi

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "rowlock"
OPERATOR_IMAGE = f"ghcr.io/rowlock/operator:{__version__}"
TRAINER_IMAGE = f"ghcr.io/rowlock/trainer:{__version__}"
#: Python and torch without Rowlock: what a user's own image may be.
TORCH_IMAGE = f"ghcr.io/rowlock/torch:{__version__}"
SYSTEM = "rowlock-system"
RELEASE = "rowlock"
#: A pod is started, its image pulled and the operator's list read within a minute, on a machine that is busy too.
INSTALL_SECONDS = 180


@dataclass
class Site:
    """A cluster with Rowlock on it."""

    cluster: Cluster

    def __post_init__(self) -> None:
        self.api: KubeApi = self.cluster.api()

    def helm(self, *words: str) -> str:
        """Run helm; return what it printed. Raises RuntimeError with what it said when it failed."""
        command = [str(program("helm")), f"--kubeconfig={self.cluster.kubeconfig}", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"helm {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def install(self, *settings: str) -> str:
        """Install the chart, or upgrade what is installed; return what helm printed.

        The tag of the images under test is always the same: an annotation tells the Deployment that they are new.
        """
        built = self.cluster.image_id(OPERATOR_IMAGE) or ""
        values = [word for setting in settings for word in ("--set", setting)]
        values += ["--set-string", f"podAnnotations.rowlock\\.dev/image={built}"]
        place = ("--namespace", SYSTEM, "--create-namespace")
        return self.helm(
            "upgrade", "--install", RELEASE, str(CHART), *place, "--wait", f"--timeout={INSTALL_SECONDS}s", *values
        )

    @contextmanager
    def isolating(self) -> Iterator[None]:
        """The chart's `jobs.isolate` is on while the context lasts."""
        self.install("jobs.isolate=true")
        self.await_leader()
        try:
            yield
        finally:
            self.install()
            self.await_leader()

    def uninstall(self) -> None:
        """Remove the release and wait until its pods are gone."""
        self.helm("uninstall", RELEASE, "--namespace", SYSTEM, "--wait")
        wait_until(lambda: not self.operators(), INSTALL_SECONDS, "the operator's pods are gone")

    def operators(self) -> list[JsonObject]:
        """The operator's pods."""
        return self.api.list(f"/api/v1/namespaces/{SYSTEM}/pods", labelSelector="app.kubernetes.io/name=rowlock")

    def leader(self) -> JsonObject | None:
        """The pod that leads, None when none does now; one that is going will not lead for long."""
        leases = self.api.list(f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases")
        holders = [lease["spec"].get("holderIdentity") or "" for lease in leases]
        staying = [pod for pod in self.operators() if not pod["metadata"].get("deletionTimestamp")]
        return next((pod for pod in staying for holder in holders if holder.startswith(pod["metadata"]["name"])), None)

    def await_leader(self, *, other_than: str = "", seconds: float = 60.0) -> JsonObject:
        """Wait for a leader; `other_than` is the UID of one that does not count."""
        found: list[Any] = []

        def led() -> bool:
            pod = self.leader()
            if pod is not None and pod["metadata"]["uid"] != other_than:
                found.append(pod)
            return bool(found)

        wait_until(led, seconds, "an operator leads")
        pod: JsonObject = found[0]
        return pod

    def logs(self) -> str:
        """The ends of the operators' logs, for a failed test's message."""
        words = ["logs", "-n", SYSTEM, "-l", "app.kubernetes.io/name=rowlock", "--prefix", "--tail=40"]
        try:
            return self.cluster.kubectl(*words)
        except RuntimeError as error:
            return str(error)
