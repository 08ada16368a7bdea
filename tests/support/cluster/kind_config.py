"""What kind and its nodes are told: the cluster's shape, the audit log, the registry, the shared volume.

Pure: nothing here starts or writes anything.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.cluster.control import AUDIT_POLICY, NODE_GRACE_SECONDS
from tests.support.cluster.interface import SHARED_CLASS
from tests.support.cluster.layout import NAME
from tests.support.cluster.node_config import MIRRORED
from tests.support.go_programs import cache_root

CONTROL_PLANE = f"{NAME}-control-plane"
#: The registry's container, which is its name for the nodes too.
REGISTRY = f"{NAME}-registry"
#: Its port on the loopback of this machine. Docker pushes to a registry on loopback without TLS; 5000 is taken on Macs.
REGISTRY_PORT = 5001
#: Where every node has the folder that is shared by all.
SHARED = "/var/rowlock-volumes"
#: Where the control plane's node has policy and log, in its container and in the API server's alike.
AUDIT = "/var/log/rowlock-audit"


@dataclass(frozen=True)
class KindLayout:
    """Folders of a kind cluster on this machine."""

    state: Path

    @classmethod
    def default(cls) -> KindLayout:
        """Return those of this user's cluster."""
        return cls(cache_root() / "kind")

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig."""
        return self.state / "kubeconfig"

    @property
    def volumes(self) -> Path:
        """The shared folder."""
        return self.state / "volumes"

    @property
    def audit(self) -> Path:
        """The folder of audit policy and audit log."""
        return self.state / "audit"


def cluster_config(layout: KindLayout, workers: int) -> str:
    """Return kind's configuration (YAML): a node for the control plane, and `workers` for pods."""
    shared = {"hostPath": str(layout.volumes), "containerPath": SHARED}
    control_plane = {
        "role": "control-plane",
        "extraMounts": [dict(shared), {"hostPath": str(layout.audit), "containerPath": AUDIT}],
        "kubeadmConfigPatches": [yaml.safe_dump(_control_plane_patch(), sort_keys=False)],
    }
    config = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        # Node images of today look there anyway; it does no harm to say so.
        "containerdConfigPatches": [
            '[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "/etc/containerd/certs.d"\n'
        ],
        "nodes": [control_plane, *({"role": "worker", "extraMounts": [dict(shared)]} for _ in range(workers))],
    }
    return yaml.safe_dump(config, sort_keys=False)


def _control_plane_patch() -> dict[str, Any]:
    """What differs from kind's own kubeadm configuration, in the form of kubeadm v1beta4 (Kubernetes 1.36 and newer).

    Lists are replaced, not merged: what kind gives the controller manager is named again.
    """
    audit = {
        "audit-policy-file": f"{AUDIT}/policy.yaml",
        "audit-log-path": f"{AUDIT}/audit.log",
        "audit-log-mode": "blocking",
    }
    controllers = {
        "enable-hostpath-provisioner": "true",
        "node-monitor-grace-period": f"{NODE_GRACE_SECONDS}s",
    }
    volume = {"name": "rowlock-audit", "hostPath": AUDIT, "mountPath": AUDIT, "pathType": "Directory"}
    return {
        "kind": "ClusterConfiguration",
        "apiServer": {"extraArgs": _arguments(audit), "extraVolumes": [volume]},
        "controllerManager": {"extraArgs": _arguments(controllers)},
    }


def _arguments(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def audit_policy() -> str:
    """Return the policy file (YAML)."""
    return yaml.safe_dump(AUDIT_POLICY)


def registry_hosts() -> dict[str, str]:
    """Return each hosts.toml of a node, by its path: the local registry answers in place of the release's."""
    hosts = (
        f'server = "http://{REGISTRY}:5000"\n\n[host."http://{REGISTRY}:5000"]\ncapabilities = ["pull", "resolve"]\n'
    )
    return {f"/etc/containerd/certs.d/{registry}/hosts.toml": hosts for registry in MIRRORED}


def pushed_name(image: str) -> str:
    """Return the name under which this machine pushes an image into the registry."""
    _, _, path = image.partition("/")
    return f"localhost:{REGISTRY_PORT}/{path}"


def provisioner_patch() -> str:
    """Return the change to the ConfigMap of kind's local-path-provisioner: one folder that all nodes have."""
    return json.dumps({"data": {"config.json": json.dumps({"sharedFileSystemPath": SHARED})}})


def storage_class() -> str:
    """Return the default StorageClass, whose volumes every node can write to."""
    return json.dumps(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": SHARED_CLASS,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "rancher.io/local-path",
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    )
