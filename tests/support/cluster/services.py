"""What a cluster has beside Kubernetes itself, as processes of the machine: names, volumes, packet filters, a registry.

They are not pods, so that a node may lose its power without taking the names of all others with it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.cluster.control import START_SECONDS, answers, daemon
from tests.support.cluster.credentials import kubeconfig_of
from tests.support.cluster.interface import SHARED_CLASS, SIZED_CLASS
from tests.support.cluster.isolation import hooked
from tests.support.cluster.layout import DNS_SERVICE, DOMAIN, HOST, REGISTRY_PORT, Layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.cluster.layout import NodeNames
    from tests.support.cluster.programs import Programs

PROVISIONER = "rowlock.dev/directory"
#: Where this package is found, whatever folder the cluster was started in.
_ROOT = Path(__file__).parents[3]


class Services:
    """Name server, volume provisioner, enforcement of network policies, and registry."""

    def __init__(self, layout: Layout, programs: Programs) -> None:
        self._layout = layout
        self._programs = programs
        self.names, self.provisioner, self.isolation, self.registry = (
            daemon(layout, name) for name in ("coredns", "provisioner", "isolation", "registry")
        )

    def start_registry(self) -> None:
        """Start the registry: it needs no cluster."""
        self._layout.registry.mkdir(parents=True, exist_ok=True)
        config = self._layout.run / "registry.yaml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(
            yaml.safe_dump(
                {
                    "version": "0.1",
                    "log": {"level": "warn", "accesslog": {"disabled": True}},
                    "storage": {
                        "filesystem": {"rootdirectory": str(self._layout.registry)},
                        "delete": {"enabled": True},
                    },
                    "http": {"addr": f"{HOST}:{REGISTRY_PORT}"},
                }
            )
        )
        self.registry.start(["docker-registry", "serve", config], listens=[(HOST, REGISTRY_PORT)])
        self.registry.await_ready(lambda: answers(f"http://{HOST}:{REGISTRY_PORT}/v2/"), START_SECONDS)

    def start(self) -> None:
        """Start name server, provisioner and enforcement."""
        corefile = self._layout.run / "Corefile"
        corefile.write_text(_corefile(self._layout))
        self.names.start([self._programs.coredns, "-conf", corefile], listens=[(HOST, 53), (HOST, 8181)])
        self._layout.volumes.mkdir(parents=True, exist_ok=True)
        kubeconfig = kubeconfig_of(self._layout, "rowlock:provisioner")
        self.provisioner.start(
            [self._programs.provisioner, f"--kubeconfig={kubeconfig}", f"--root={self._layout.volumes}"]
        )
        self.start_isolation()

    def start_isolation(self) -> None:
        """Start the enforcement of network policies."""
        kubeconfig = kubeconfig_of(self._layout, "rowlock:isolation")
        words = [sys.executable, "-m", "tests.support.cluster.isolation", f"--kubeconfig={kubeconfig}"]
        self.isolation.start(words, os.environ | {"PYTHONPATH": str(_ROOT)})

    def await_ready(self, nodes: Sequence[NodeNames]) -> None:
        """Wait until names are answered and the nodes' packet filters are kept."""
        self.names.await_ready(lambda: answers(f"http://{HOST}:8181/ready"), START_SECONDS)
        self.isolation.await_ready(lambda: all(hooked(node) for node in nodes), START_SECONDS)

    def stop(self) -> None:
        """Kill all four."""
        for one in (self.names, self.provisioner, self.isolation, self.registry):
            one.kill()


def _corefile(layout: Layout) -> str:
    """kubeadm's Corefile, as far as a machine without an outside needs it; its times are what users meet."""
    return f"""{DOMAIN}:53 {{
    bind {HOST}
    errors
    ready {HOST}:8181
    kubernetes {DOMAIN} {{
        kubeconfig {kubeconfig_of(layout, "rowlock:coredns")}
        pods insecure
        ttl 30
    }}
    cache 30
}}
"""


def objects() -> str:
    """Return what the services are known by in the cluster, as a manifest."""
    return "\n---\n".join(json.dumps(item) for item in [*_name_service(), *_storage_classes()])


def _name_service() -> list[dict[str, Any]]:
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    meta = {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}
    labels = {"kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": "rowlock.dev"}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"clusterIP": DNS_SERVICE, "ports": ports}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [HOST], "conditions": {"ready": True}}],
            "ports": ports,
        },
    ]


def _storage_classes() -> list[dict[str, Any]]:
    def storage_class(name: str, annotations: dict[str, str], parameters: dict[str, str]) -> dict[str, Any]:
        return {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name, "annotations": annotations},
            "provisioner": PROVISIONER,
            "parameters": parameters,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
        }

    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    return [storage_class(SHARED_CLASS, default, {}), storage_class(SIZED_CLASS, {}, {"medium": "tmpfs"})]
