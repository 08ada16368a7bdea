"""The operator as its own process, with the rights it is documented to need and no others."""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from rowlock_operator.kube.permissions import ISOLATION_RULES, JOB_RULES, leader_rules
from rowlock_operator.kube.settings import LEASE_NAME, SERVICE_NAME
from tests.support.control_plane import PORTS
from tests.support.kube_api import wait_until
from tests.support.processes import Child

if TYPE_CHECKING:
    from tests.support.control_plane import ControlPlane

START_SECONDS = 60.0


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, below the ephemeral range: they must be free again after a restart."""
    chosen: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise RuntimeError(f"no {count} free ports from {PORTS.start} to {PORTS.stop}")


def operator_kubeconfig(
    plane: ControlPlane, directory: Path, server: str = "", leads_in: str = "", *, isolates: bool = False
) -> Path:
    """Write the kubeconfig of a service account with `JOB_RULES`.

    Args:
        plane: The control plane.
        directory: Where the file goes.
        server: Replaces the API server's URL.
        isolates: It has `ISOLATION_RULES`, too.
        leads_in: Namespace in which it has `leader_rules`, too; it lies in `default` itself.
    """
    api = plane.client()
    name = f"rowlock-operator-{random.randrange(10**9)}"
    api.create("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": name}}).ok()
    roles = "/apis/rbac.authorization.k8s.io/v1"
    rules = [*JOB_RULES, *(ISOLATION_RULES if isolates else ())]
    api.create(f"{roles}/clusterroles", {"metadata": {"name": name}, "rules": rules}).ok()
    binding: dict[str, Any] = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
    }
    api.create(f"{roles}/clusterrolebindings", binding).ok()
    if leads_in:
        local = f"{roles}/namespaces/{leads_in}"
        rules = list(leader_rules(lease=LEASE_NAME, service=SERVICE_NAME))
        api.create(f"{local}/roles", {"metadata": {"name": name}, "rules": rules}).ok()
        api.create(f"{local}/rolebindings", binding | {"roleRef": binding["roleRef"] | {"kind": "Role"}}).ok()
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = api.create(f"/api/v1/namespaces/default/serviceaccounts/{name}/token", request).ok()
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": answer["status"]["token"]}
    if server:
        config["clusters"][0]["cluster"] = {"server": server}
    path = directory / f"{name}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    return path


class OperatorProcess:
    """An operator that can be killed and started again at the same ports."""

    def __init__(self, kubeconfig: Path, directory: Path, namespace: str = "", *flags: str) -> None:
        self.log = directory / "operator.log"
        self._coordinator_port, self._probes_port = free_ports(2)
        self.coordinator_url = f"http://127.0.0.1:{self._coordinator_port}"
        self._command = [
            sys.executable, "-m", "rowlock_operator.kube",
            f"--kubeconfig={kubeconfig}",
            "--coordinator-host=127.0.0.1", f"--coordinator-port={self._coordinator_port}",
            f"--coordinator-url={self.coordinator_url}",
            "--probes-host=127.0.0.1", f"--probes-port={self._probes_port}",
            "--log-level=debug",
            *([f"--namespace={namespace}"] if namespace else []),
            *flags,
        ]  # fmt: skip
        self._child: Child | None = None

    def serve_all_namespaces(self) -> None:
        """From the next start on."""
        self._command = [word for word in self._command if not word.startswith("--namespace=")]

    def add_flags(self, *flags: str) -> None:
        """From the next start on."""
        self._command += flags

    def start(self, *, wait: bool = True) -> None:
        """Start it; with `wait`, return when it has listed everything."""
        assert self._child is None or not self._child.running
        self._child = Child.start("operator", self._command, self.log, os.environ)
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until it has listed everything."""

        def ready() -> bool:
            assert self._child is not None
            assert self._child.running, f"the operator ended:\n{self._child.tail()}"
            return self.probe("readyz") == 200

        wait_until(ready, START_SECONDS, "the operator is ready")

    @property
    def coordinator_port(self) -> int:
        """Where launchers reach it, when it leads."""
        return self._coordinator_port

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._child is not None and self._child.running

    def role(self) -> str:
        """What it says of itself on /readyz: leading, standby, or nothing while it is not ready."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._probes_port}/readyz", timeout=5) as response:
                return str(response.read().decode()).partition(": ")[2].strip()
        except OSError:
            return ""

    def wait_ended(self) -> int:
        """Wait until it ends by itself; return the exit code."""
        assert self._child is not None
        return self._child.process.wait(START_SECONDS)

    def kill(self) -> None:
        """SIGKILL."""
        assert self._child is not None
        self._child.kill()

    def pause(self) -> None:
        """SIGSTOP: it neither hears nor says anything."""
        assert self._child is not None
        self._child.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self._child is not None
        self._child.process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        assert self._child is not None
        self._child.stop()
        assert self._child.process.returncode is not None
        return self._child.process.returncode

    def probe(self, name: str) -> int:
        """The status /healthz or /readyz answers; 0 when nobody does."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._probes_port}/{name}", timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """All samples of /metrics by name and labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._probes_port}/metrics", timeout=30) as response:
            text = response.read().decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry `labels`."""
        wanted = set(labels.items())
        return sum(value for (one, held), value in self.metrics().items() if one == name and wanted <= held)
