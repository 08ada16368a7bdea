"""Where the native cluster lives: its addresses, and its folders on this machine.

Everything that belongs to the cluster carries one of these names, so that `down` finds it without a list,
also after a crash.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.support.go_programs import cache_root

#: Ours alone: what is found under this name is removed by `down`. A network device's name has 15 characters.
NAME = "rowlock"
BRIDGE = f"{NAME}0"
#: Private ranges that home routers, Docker, kind and the usual overlay networks do not take by default.
NODE_NETWORK = "10.213.0.0/24"
POD_NETWORK = "10.214.0.0/16"
SERVICE_NETWORK = "10.215.0.0/16"
#: The machine itself, as nodes and pods see it: control plane, name server and registry listen here.
HOST = "10.213.0.1"
API_SERVICE = "10.215.0.1"
DNS_SERVICE = "10.215.0.10"
DOMAIN = "cluster.local"
API_PORT = 6443
#: Not 5000, which Debian's own package of the registry takes on every address once it is started.
REGISTRY_PORT = 5010
#: A node's last address byte and its pods' third one are counted from here and from 1.
_FIRST_NODE = 11
#: One node for each third byte would be 255; more than this nobody starts on one machine.
MAX_NODES = 9


@dataclass(frozen=True)
class Layout:
    """Folders of a cluster.

    Sockets and process records are in `run`, whose path is short because a Unix socket's may have 107
    characters only; what is large is in `state`, on one file system with the images that nodes share.
    """

    run: Path
    state: Path

    @classmethod
    def default(cls) -> Layout:
        """Return the folders of this machine's cluster."""
        state = cache_root() / "cluster"
        if any(character.isspace() for character in str(state)):
            raise ValueError(f"ROWLOCK_CACHE {str(cache_root())!r} has a space in it, which mounts cannot be found by")
        return cls(Path("/run") / f"{NAME}-cluster", state)

    @property
    def logs(self) -> Path:
        """Logs of every component."""
        return self.state / "logs"

    @property
    def volumes(self) -> Path:
        """What the volumes' data is in: a folder each."""
        return self.state / "volumes"

    @property
    def credentials(self) -> Path:
        """Keys, tokens and kubeconfigs."""
        return self.run / "credentials"

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig."""
        return self.run / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """Every request to the API server, one JSON object a line."""
        return self.logs / "audit.log"

    @property
    def seeds(self) -> Path:
        """Image stores that new nodes begin with; kept when the cluster goes down."""
        return cache_root() / "cluster-seeds"

    @property
    def programs(self) -> Path:
        """Names under which the one Kubernetes binary is called, kubectl among them; kept likewise."""
        return cache_root() / "cluster-programs"

    @property
    def registry(self) -> Path:
        """What was pushed; kept when the cluster goes down."""
        return cache_root() / "cluster-registry"


@dataclass(frozen=True)
class NodeNames:
    """One node's name and addresses, from its number (1, 2, ...)."""

    number: int

    @property
    def name(self) -> str:
        """Name in Kubernetes, and of its network namespace with the cluster's name before it."""
        return f"node-{self.number}"

    @property
    def namespace(self) -> str:
        """Its network namespace."""
        return f"{NAME}-{self.name}"

    @property
    def device(self) -> str:
        """The machine's end of its cable."""
        return f"{NAME}-n{self.number}"

    @property
    def address(self) -> str:
        """Its address on the nodes' network."""
        return f"10.213.0.{_FIRST_NODE - 1 + self.number}"

    @property
    def pods(self) -> str:
        """The range its pods get addresses from."""
        return f"10.214.{self.number}.0/24"
