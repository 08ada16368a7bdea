"""What the end-to-end tests ask of a cluster, wherever it comes from."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.kube_api import KubeApi

#: StorageClasses: volumes that all nodes can mount for writing, the default of every cluster here; and the same with
#: the claim's size enforced, which a kind cluster does not have.
SHARED_CLASS, SIZED_CLASS = "shared", "sized"


class Cluster(Protocol):
    """A cluster with several nodes that may be mistreated."""

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig."""

    @property
    def audit_log(self) -> Path:
        """Every request to the API server, one JSON object a line."""

    @property
    def node_names(self) -> list[str]:
        """Nodes that pods run on."""

    @property
    def api_address(self) -> tuple[str, int]:
        """Address and port of the API server, as pods' packets have it after services were resolved."""

    def api(self) -> KubeApi:
        """Return a client with the admin's rights."""

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl as the admin and return what it printed. Raises RuntimeError with what it said when it failed."""

    def image_id(self, image: str) -> str | None:
        """Return the first characters of the id of an image that `make image` built, None when there is none."""

    def load(self, images: Sequence[str]) -> None:
        """Bring images that `make image` built to every node."""

    def publish(self, image: str, name: str) -> None:
        """Make a built image available under another name, to be pulled by who asks for it."""

    def on_node(self, node: str, *command: str) -> str:
        """Run a command in a node's network, as root; return what it printed."""

    def kill_container(self, node: str, container: str) -> None:
        """SIGKILL a container's first process."""

    def power_off(self, node: str) -> None:
        """Cut a node's power: all its processes are gone at once."""

    def power_on(self, node: str) -> None:
        """Boot a node again."""

    def stop_apiserver(self) -> None:
        """Kill the API server."""

    def start_apiserver(self) -> None:
        """Start it again, with all it knew, and wait until it is ready."""

    def volume(self, namespace: str, claim: str) -> Path:
        """Return where the data of a bound claim is on this machine."""


@contextmanager
def cut(cluster: Cluster, source: str, destination: str, port: int | None = None) -> Iterator[None]:
    """Lose every packet between two addresses, in both directions, while the context lasts.

    Args:
        cluster: Where.
        source: Address or range of the one side, a pod's as a rule.
        destination: Address or range of the other side, after services were resolved.
        port: TCP port of the destination; all traffic when None.
    """
    to, back = ["-s", source, "-d", destination], ["-s", destination, "-d", source]
    if port is not None:
        to += ["-p", "tcp", "--dport", str(port)]
        back += ["-p", "tcp", "--sport", str(port)]
    # In the mangle table of what is forwarded, a packet's destination is the pod's own, and no proxy writes rules.
    rules = [["-t", "mangle", action, "FORWARD", *side, "-j", "DROP"] for action in ("-I", "-D") for side in (to, back)]
    with ExitStack() as added:
        for node in cluster.node_names:
            for add, remove in zip(rules[:2], rules[2:], strict=True):
                cluster.on_node(node, "iptables", "-w", *add)
                added.callback(cluster.on_node, node, "iptables", "-w", *remove)
        yield
