"""The JobSet controller, built from its Go module and run on this machine against the cluster.

Its resource definition and its webhooks are read from the module's own folder. The webhooks are called at an address of
this machine, with a certificate made for the run, and for the benchmark's namespaces only: should this process be
killed, no other pod of the cluster waits for an answer from it.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.cluster.interface import Cluster
from tests.support.go_programs import SOURCES, program, required
from tests.support.kube_api import KubeApi, wait_until
from tests.support.operator_process import free_ports
from tests.support.processes import Child

MODULE = "sigs.k8s.io/jobset"
VERSION = required(MODULE, SOURCES / "jobset" / "go.mod")
#: On all that the benchmark creates outside its namespaces, so that what a killed run left is known for its own.
OWN_LABEL = {"rowlock.dev/benchmark": "cluster"}
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_WEBHOOKS = "/apis/admissionregistration.k8s.io/v1"
_START_SECONDS = 60.0


def module_folder() -> Path:
    """Return where Go keeps the module's files; they are only read."""
    command = ["go", "list", "-m", "-f", "{{.Dir}}", MODULE]
    done = subprocess.run(command, cwd=SOURCES / "jobset", capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


@contextlib.contextmanager
def jobset_controller(cluster: Cluster) -> Iterator[None]:
    """Run the controller, with its definition and webhooks in the cluster; take all of it away at the end."""
    api, components = cluster.api(), module_folder() / "config" / "components"
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rowlock-bench-")))
        definition = yaml.safe_load((components / "crd" / "bases" / "jobset.x-k8s.io_jobsets.yaml").read_text())
        _create(api, stack, _DEFINITIONS, definition)
        address = _address_for(cluster)
        port, health = free_ports(2)
        authority = _certificate(folder, address)
        _run(stack, cluster, folder, address, port, health)
        for webhooks in yaml.safe_load_all((components / "webhook" / "manifests.yaml").read_text()):
            plural = f"{webhooks['kind'].lower()}s"
            body = pointed_at(webhooks, f"https://{address}:{port}", authority)
            _create(api, stack, f"{_WEBHOOKS}/{plural}", body)
        yield


def pointed_at(configuration: dict[str, Any], url: str, authority: bytes) -> dict[str, Any]:
    """Return a webhook configuration that calls `url`, for the benchmark's namespaces, under a name of our own.

    Args:
        configuration: As the module has it, for a Service in the cluster.
        url: Scheme, address and port.
        authority: PEM of the certificate that the webhook server shows.
    """
    webhooks = []
    for webhook in configuration["webhooks"]:
        path = webhook["clientConfig"]["service"]["path"]
        client = {"url": f"{url}{path}", "caBundle": base64.b64encode(authority).decode()}
        webhooks.append(webhook | {"clientConfig": client, "namespaceSelector": {"matchLabels": OWN_LABEL}})
    name = f"rowlock-benchmark-{configuration['metadata']['name']}"
    return configuration | {"metadata": {"name": name}, "webhooks": webhooks}


def _create(api: KubeApi, stack: contextlib.ExitStack, path: str, body: dict[str, Any]) -> None:
    """Create an object and have it deleted at the end; one that an earlier run left is replaced."""
    body["metadata"]["labels"] = {**body["metadata"].get("labels", {}), **OWN_LABEL}
    one = f"{path}/{body['metadata']['name']}"
    there = api.get(one)
    if there.status != 404:
        labels = there.ok()["metadata"].get("labels", {})
        if OWN_LABEL.items() - labels.items():
            raise SystemExit(f"{one} is there already and is not the benchmark's: measure on a cluster without JobSet")
        api.delete(one).ok()
        wait_until(lambda: api.get(one).status == 404, _START_SECONDS, f"{one} of an earlier run is gone")
    stack.callback(api.delete, one)
    api.create(path, body).ok()


def _run(stack: contextlib.ExitStack, cluster: Cluster, folder: Path, address: str, port: int, health: int) -> None:
    config = {
        "apiVersion": "config.jobset.x-k8s.io/v1alpha1",
        "kind": "Configuration",
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
        "webhook": {"host": address, "port": port, "certDir": str(folder)},
        "health": {"healthProbeBindAddress": f"127.0.0.1:{health}"},
        "metrics": {"bindAddress": "0"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    command: list[str | Path] = [program("jobset"), f"--config={folder / 'config.yaml'}"]
    child = Child.start("jobset", command, folder / "jobset.log", environment)
    stack.callback(child.stop)

    def listens() -> bool:
        if not child.running:
            raise RuntimeError(f"the JobSet controller ended:\n{child.tail()}")
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
            return True
        return False

    wait_until(listens, _START_SECONDS, "the JobSet controller serves its webhooks")


def _address_for(cluster: Cluster) -> str:
    """Return the address of this machine that the API server reaches it at."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(cluster.api_address)  # sends nothing: it only asks for the route
        return str(probe.getsockname()[0])


def _certificate(folder: Path, address: str) -> bytes:
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=rowlock-benchmark",
        "-addext", f"subjectAltName=IP:{address}", "-keyout", "tls.key", "-out", "tls.crt",
    ]  # fmt: skip
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    return (folder / "tls.crt").read_bytes()
