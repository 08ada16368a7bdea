"""One node: a network namespace with containerd, kubelet and kube-proxy in it.

`power_off` is what a power cut is: every process of the node, its containers' among them, is gone at once
and nobody says goodbye; its cable is dead. `power_on` boots it again with the disk it had.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.cluster import network, node_config, traces
from tests.support.cluster.control import START_SECONDS, answers, daemon
from tests.support.cluster.credentials import kubeconfig_of
from tests.support.cluster.daemons import command_lines, descendants, kill_all, start_time
from tests.support.cluster.mounts import remove_cgroups, unmount_below

if TYPE_CHECKING:
    from tests.support.cluster.layout import Layout, NodeNames
    from tests.support.cluster.programs import Programs


class Node:
    """A node of the native cluster."""

    def __init__(self, names: NodeNames, layout: Layout, programs: Programs) -> None:
        self.names = names
        self._layout = layout
        self._programs = programs
        #: What is lost when the power is: sockets, mounts, addresses in use.
        self.run = layout.run / names.name
        #: The disk.
        self.disk = layout.state / names.name
        self._containerd, self._kubelet, self._proxy = (
            daemon(layout, f"{names.name}-{name}") for name in ("containerd", "kubelet", "kube-proxy")
        )

    @property
    def store(self) -> Path:
        """containerd's images and layers."""
        return self.disk / "containerd"

    @property
    def socket(self) -> Path:
        """containerd's socket."""
        return self.run / "containerd.sock"

    def start_runtime(self) -> None:
        """Start containerd and wait until it answers."""
        self.run.mkdir(parents=True, exist_ok=True)
        certs, cni = self.run / "registries", self.run / "cni"
        for registry in node_config.MIRRORED:
            (certs / registry).mkdir(parents=True, exist_ok=True)
            (certs / registry / "hosts.toml").write_text(node_config.registry_hosts())
        cni.mkdir(exist_ok=True)
        (cni / "10-pods.conflist").write_text(node_config.cni_config(self.names, self.run))
        config = self.run / "containerd.toml"
        config.write_text(node_config.containerd_config(self.names, self.run, self.store, certs, cni))
        self._containerd.start([*network.in_namespace(self.names), "containerd", "--config", config])
        self._containerd.await_ready(self._runtime_answers, START_SECONDS)

    def start_kubelet(self) -> None:
        """Start kubelet and kube-proxy. The node reports ready some seconds later."""
        root = self.disk / "kubelet"
        (root / "pod-logs").mkdir(parents=True, exist_ok=True)
        config = self.run / "kubelet.yaml"
        config.write_text(node_config.kubelet_config(self.names, self._layout, self.run, root))
        inside = network.in_namespace(self.names)
        kubeconfig = kubeconfig_of(self._layout, f"system:node:{self.names.name}")
        self._kubelet.start(
            [
                *inside, self._programs.kubernetes["kubelet"],
                f"--config={config}", f"--kubeconfig={kubeconfig}", f"--root-dir={root}", f"--cert-dir={root / 'pki'}",
                f"--hostname-override={self.names.name}", f"--node-ip={self.names.address}",
            ]
        )  # fmt: skip
        config = self.run / "proxy.yaml"
        config.write_text(node_config.proxy_config(self.names, kubeconfig_of(self._layout, "system:kube-proxy")))
        self._proxy.start([*inside, self._programs.kubernetes["kube-proxy"], f"--config={config}"])

    def await_proxy(self) -> None:
        """Wait until services can be reached from the node."""
        self._proxy.await_ready(lambda: answers(f"http://{self.names.address}:10256/healthz"), START_SECONDS)

    def power_off(self) -> None:
        """Cut the power."""
        network.plug(self.names, in_=False)
        # All at once: a kubelet that outlived its containers by a moment could still tell of their end.
        while pids := self._processes():  # more than once: one of them may just have started another
            kill_all(pids)
        remove_cgroups(self.run / "containerd")
        for socket in list(traces.shim_sockets(self.run / "containerd")):
            socket.unlink(missing_ok=True)
        unmount_below(self.run, self.disk)
        network.flush_pods(self.names)
        shutil.rmtree(self.run)

    def power_on(self) -> None:
        """Boot it again: its disk is as it was, its memory is empty."""
        network.plug(self.names, in_=True)
        self.start_runtime()
        self.start_kubelet()

    def pull(self, image: str) -> None:
        """Pull an image anew, whether or not one of that name is there."""
        hosts = self.run / "registries"
        network.run("ctr", "-a", self.socket, "-n", "k8s.io", "images", "pull", "--hosts-dir", hosts, image)

    def _runtime_answers(self) -> bool:
        return network.run("ctr", "-a", self.socket, "version", check=False).returncode == 0

    def _processes(self) -> list[int]:
        """All processes of the node that live, its containers' among them."""
        own = [one.pid for one in (self._kubelet, self._containerd, self._proxy)]
        found = descendants([pid for pid in own if pid is not None] + self._shims())
        return [pid for pid in found if start_time(pid) is not None]

    def _shims(self) -> list[int]:
        """Process ids of what stands between containerd and its containers."""
        socket = os.fspath(self.socket)
        lines = command_lines()
        return [
            pid for pid, line in lines.items() if Path(line[0]).name.startswith("containerd-shim") and socket in line
        ]
