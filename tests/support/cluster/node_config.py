"""Configuration files of one node's programs.

What differs from a production node is what this kind of machine does not have (cgroups of version 1 that
nobody delegates, resource limits that cannot be raised) or what would get in a test's way (evictions
because the disk of the machine is full).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.cluster.layout import DNS_SERVICE, DOMAIN, HOST, NAME, POD_NETWORK, REGISTRY_PORT
from tests.support.cluster.traces import NETWORK

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.cluster.layout import Layout, NodeNames

PAUSE_IMAGE = f"registry.{NAME}.test/pause:1"
#: Registries whose names the cluster's own registry answers to.
MIRRORED = ("ghcr.io", f"registry.{NAME}.test")
#: Debian's folder of network plugins.
_CNI_PROGRAMS = "/usr/lib/cni"


def containerd_config(node: NodeNames, run: Path, store: Path, certs: Path, cni: Path) -> str:
    """Return containerd's configuration (TOML): all its folders are the node's own."""
    return f"""version = 2
root = "{store}"
state = "{run}/containerd"
oom_score = 0

[grpc]
address = "{run}/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
path = "{run}/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
stream_server_address = "{node.address}"
stream_server_port = "0"
# Scores below the caller's own cannot be set without a right that a sandboxed root may lack.
restrict_oom_score_adj = true
# With the node's own state, so that they go with it.
netns_mounts_under_state_dir = true
max_concurrent_downloads = 4

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
Root = "{run}/runc"

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{certs}"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{_CNI_PROGRAMS}"
conf_dir = "{cni}"
"""


def registry_hosts() -> str:
    """Return a hosts.toml that asks the cluster's registry and nobody else."""
    return f"""server = "http://{HOST}:{REGISTRY_PORT}"

[host."http://{HOST}:{REGISTRY_PORT}"]
capabilities = ["pull", "resolve"]
"""


def cni_config(node: NodeNames, run: Path) -> str:
    """Return the network configuration list: a routed link for each pod, addresses from the node's range."""
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": node.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(run / "addresses"),
    }
    plugins: list[dict[str, Any]] = [
        {"type": "ptp", "ipam": ipam},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return json.dumps({"cniVersion": "0.4.0", "name": NETWORK, "plugins": plugins})


def kubelet_config(node: NodeNames, layout: Layout, run: Path, root: Path) -> str:
    """Return the KubeletConfiguration."""
    resolver = run / "resolv.conf"
    resolver.write_text(f"nameserver {HOST}\n")
    return yaml.safe_dump(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": node.address,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": False},
                "x509": {"clientCAFile": str(layout.credentials / "ca.crt")},
            },
            # Whom the authority above knows is the API server.
            "authorization": {"mode": "AlwaysAllow"},
            "clusterDNS": [DNS_SERVICE],
            "clusterDomain": DOMAIN,
            "resolvConf": str(resolver),
            "containerRuntimeEndpoint": f"unix://{run}/containerd.sock",
            "podLogsDir": str(root / "pod-logs"),
            "volumePluginDir": str(root / "volume-plugins"),
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "localStorageCapacityIsolation": False,
            "failSwapOn": False,
            "oomScoreAdj": 0,
            # A disk that is nearly full belongs to whoever owns the machine: no pod is evicted for it, and no
            # image is collected that the next test would pull again.
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
            "serializeImagePulls": False,
            # Noticed within the control plane's grace period, by two missed renewals.
            "nodeLeaseDurationSeconds": 12,
            "nodeStatusUpdateFrequency": "4s",
        }
    )


def proxy_config(node: NodeNames, kubeconfig: Path) -> str:
    """Return the KubeProxyConfiguration."""
    untouched = {"maxPerCore": 0, "min": 0, "tcpCloseWaitTimeout": "0s", "tcpEstablishedTimeout": "0s"}
    return yaml.safe_dump(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "bindAddress": node.address,
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "clusterCIDR": POD_NETWORK,
            "mode": "iptables",
            # Limits of the machine's connection table are not a namespace's to set.
            "conntrack": untouched,
            "hostnameOverride": node.name,
            "healthzBindAddress": f"{node.address}:10256",
            "metricsBindAddress": f"{node.address}:10249",
            "oomScoreAdj": 0,
        }
    )
