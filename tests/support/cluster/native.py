"""The native cluster: several nodes on one Linux machine without Docker.

Real components all the way down: etcd, API server, controllers, scheduler, and for each node a containerd, a kubelet
and a kube-proxy in a network namespace of its own. One such cluster a machine; everything it leaves anywhere
carries its name, so that `down` finds it all, whoever was killed when.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.cluster import credentials, images, isolation, network, services, traces
from tests.support.cluster.control import Control
from tests.support.cluster.daemons import command_lines, descendants, kill_all, start_time
from tests.support.cluster.layout import API_PORT, HOST, MAX_NODES, Layout, NodeNames
from tests.support.cluster.mounts import mounted_below, remove_cgroups, unmount_below
from tests.support.cluster.node import Node
from tests.support.cluster.programs import Programs, provide
from tests.support.cluster.services import Services
from tests.support.go_programs import say
from tests.support.kube_api import KubeApi, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: File in the cluster's folder that is written when all of it is up.
READY = "ready"
READY_SECONDS = 180.0
#: A link goes a moment after the namespace of its other end, a killed process when all its memory is freed.
REMOVED_SECONDS = 30.0
#: Names of the programs that a cluster is made of, beside shims and a Python module of ours.
COMPONENTS = frozenset(
    {
        "containerd", "coredns", "ctr", "docker-registry", "etcd", "kube-apiserver", "kube-controller-manager",
        "kube-proxy", "kube-scheduler", "kubelet", "nsenter", "rowlock-provisioner", "runc",
    }
)  # fmt: skip


class NativeCluster:
    """The cluster of this machine, running or not."""

    def __init__(self, layout: Layout, programs: Programs, count: int) -> None:
        self.layout = layout
        self._programs = programs
        self.control = Control(layout, programs)
        self.services = Services(layout, programs)
        self.nodes = [Node(NodeNames(number), layout, programs) for number in range(1, count + 1)]

    @classmethod
    def up(cls, count: int = 3, seed_images: Sequence[str] = ()) -> NativeCluster:
        """Start one and wait until its nodes are ready; what an earlier one left is removed first.

        Args:
            count: Nodes.
            seed_images: Images of podman's store that every node is to begin with, if the first is there.

        Raises:
            BinariesError: a program is missing and cannot be had.
            RuntimeError: a component ended, with the end of its log.
            TimeoutError: a component did not get ready.
        """
        if not 1 <= count <= MAX_NODES:
            raise ValueError(f"a native cluster has from 1 to {MAX_NODES} nodes, not {count}")
        layout = Layout.default()
        programs = provide(layout.programs)
        missing = [image for image in seed_images if images.image_id(image) is None]
        if missing:
            raise RuntimeError(
                f"podman has no image {', '.join(missing)}: build it with `make image` (podman, not docker)"
            )
        with alone(layout):
            _remove(layout)
            traces.refuse_beside_a_kubelet()
            cluster = cls(layout, programs, count)
            began = time.monotonic()
            layout.run.mkdir(parents=True)
            (layout.run / "nodes").write_text(f"{count}\n")
            traces.note_tunables(layout)
            cluster._start(seed_images)
            (layout.run / READY).touch()
        say(f"{count} nodes ready in {time.monotonic() - began:.0f} s")
        return cluster

    @classmethod
    def attach(cls) -> NativeCluster | None:
        """Return the cluster that runs on this machine, None when none does or none came to its end of starting."""
        layout = Layout.default()
        with contextlib.suppress(FileNotFoundError):
            count = int((layout.run / "nodes").read_text())
            cluster = cls(layout, provide(layout.programs), count)
            return cluster if (layout.run / READY).exists() and cluster.control.apiserver.running else None
        return None

    # --- what tests ask for (see interface.Cluster) -------------------------------------------------

    @property
    def kubeconfig(self) -> Path:
        return self.layout.kubeconfig

    @property
    def audit_log(self) -> Path:
        return self.layout.audit_log

    @property
    def node_names(self) -> list[str]:
        return [node.names.name for node in self.nodes]

    @property
    def api_address(self) -> tuple[str, int]:
        return HOST, API_PORT

    def api(self) -> KubeApi:
        token = credentials.token_of(self.layout, "kubernetes-admin")
        return KubeApi(credentials.URL, token, self.layout.credentials / "ca.crt", keep=True)

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        command: list[str | Path] = [
            self._programs.kubernetes["kubectl"],
            f"--kubeconfig={self.layout.kubeconfig}",
            *words,
        ]
        return network.run(*command, stdin=stdin).stdout

    def image_id(self, image: str) -> str | None:
        return images.image_id(image)

    def load(self, names: Sequence[str]) -> None:
        images.push_all(names)
        images.pull_everywhere(self.nodes, names)

    def publish(self, image: str, name: str) -> None:
        images.push(image, name)

    def on_node(self, node: str, *command: str) -> str:
        return network.run(*network.in_namespace(self._node(node).names), *command).stdout

    def kill_container(self, node: str, container: str) -> None:
        socket = self._node(node).socket
        network.run("ctr", "-a", socket, "-n", "k8s.io", "tasks", "kill", "--signal=SIGKILL", container)

    def power_off(self, node: str) -> None:
        self._node(node).power_off()

    def power_on(self, node: str) -> None:
        self._node(node).power_on()

    def stop_apiserver(self) -> None:
        self.control.apiserver.kill()

    def start_apiserver(self) -> None:
        self.control.start_apiserver()

    def volume(self, namespace: str, claim: str) -> Path:
        (found,) = self.layout.volumes.glob(f"{namespace}_{claim}_*")
        return found

    # --- parts --------------------------------------------------------------------------------------

    def _node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.names.name == name)

    def _start(self, seed_images: Sequence[str]) -> None:
        names = [node.names for node in self.nodes]
        network.lay_bridge()
        for one in names:
            network.lay_node(one, [other for other in names if other is not one])
        credentials.issue(self.layout, names)
        key = images.image_id(seed_images[0]) if seed_images else None  # of the first: what changes less often
        if key is not None:
            images.drop_older_than(self.layout, key)
        self.services.start_registry()
        images.push_pause(self._programs.pause, self.layout.run)
        if key is not None:
            self._seed(key, seed_images)
        for node in self.nodes:
            node.start_runtime()
        self.control.start()
        for node in self.nodes:
            node.start_kubelet()
        self.services.start()
        self.kubectl("apply", "-f", "-", stdin=services.objects())
        self.services.await_ready(names)
        for node in self.nodes:
            node.await_proxy()
        wait_until(self._all_ready, READY_SECONDS, "all nodes are ready")
        wait_until(self._takes_pods, READY_SECONDS, "the default namespace takes pods")

    def _seed(self, key: str, seed_images: Sequence[str]) -> None:
        images.push_all(seed_images)
        store = images.seed(self.layout, key, seed_images)
        for node in self.nodes:
            images.plant(node.store, store)

    def _all_ready(self) -> bool:
        path = '{range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}'
        lines = self.kubectl("get", "nodes", "-o", f"jsonpath={path}").split()
        return len(lines) == len(self.nodes) and set(lines) == {"True"}

    def _takes_pods(self) -> bool:
        """Pods are refused until a controller has made their namespace's default service account."""
        words = ("get", "serviceaccounts", "--field-selector=metadata.name=default", "-o", "name")
        return bool(self.kubectl(*words).strip())


def down(layout: Layout | None = None) -> None:
    """Remove the cluster of this machine, however little or much of it there is.

    Raises:
        RuntimeError: something of it is still there, named in the message.
    """
    layout = layout or Layout.default()
    with alone(layout):
        _remove(layout)


@contextlib.contextmanager
def alone(layout: Layout) -> Iterator[None]:
    """Start and remove one at a time: each would pull down what the other puts up.

    Raises:
        RuntimeError: another command is at it.
    """
    layout.state.parent.mkdir(parents=True, exist_ok=True)
    with (layout.state.parent / "cluster.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError("another command is just starting or removing the cluster of this machine") from None
        yield


def _remove(layout: Layout) -> None:
    while pids := _processes(layout):  # more than once: one of them may just have started another
        kill_all(pids)
    remove_cgroups(*layout.run.glob("*/containerd"))
    unmount_below(layout.run, layout.state)
    network.take_up()
    traces.take_back(layout)
    for folder in (layout.run, layout.state):
        if folder.exists():
            shutil.rmtree(folder)
    try:
        wait_until(lambda: not leftovers(layout), REMOVED_SECONDS, "the cluster is removed")
    except TimeoutError:
        left = "\n".join(leftovers(layout))
        raise RuntimeError(f"not all of the cluster could be removed; still there:\n{left}") from None


def leftovers(layout: Layout) -> list[str]:
    """What there is of a cluster on this machine, a line each; nothing where none was started or all was removed."""
    lines = command_lines()
    return [
        *(f"process {pid}: {' '.join(lines.get(pid, ())).strip()}" for pid in _processes(layout)),
        *(f"mount {point}" for point in mounted_below(layout.run, layout.state)),
        *network.laid(),
        *(f"file {path}" for path in traces.left(layout)),
        *(f"folder {folder}" for folder in (layout.run, layout.state) if folder.exists()),
    ]


def _processes(layout: Layout) -> list[int]:
    """The cluster's programs, by a folder of its on their command lines, and their children: containers are such.

    Only programs that a cluster is made of: who reads a log of it, or gave its kubeconfig to a shell, is somebody else.
    """
    ours = (f"{layout.run}/", f"{layout.state}/")
    found = [
        pid
        for pid, line in command_lines().items()
        if is_component(line) and any(folder in word for word in line for folder in ours)
    ]
    found += traces.container_processes(layout)
    return [pid for pid in descendants(found) if start_time(pid) is not None]


def is_component(line: Sequence[str]) -> bool:
    """Whether a command line is that of a program that a cluster is made of, be it this one's or another's."""
    name = Path(line[0]).name
    return name in COMPONENTS or name.startswith("containerd-shim") or isolation.__name__ in line
