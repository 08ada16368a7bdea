"""The cluster's cables: a bridge, and for each node a network namespace with a link to it.

A node is a host of its own as far as the network goes: its own addresses, routes and packet filter. Pods
are routed, not bridged, so every packet to or from one passes its node's filter. What leaves a node
for another node's pods takes the route that a cloud's network would hold.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.cluster.layout import BRIDGE, HOST, NAME, NodeNames

if TYPE_CHECKING:
    from collections.abc import Sequence


_FILTERS_BRIDGES = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
_PASS = ("FORWARD", "-i", BRIDGE, "-o", BRIDGE, "-j", "ACCEPT")


def run(*command: str | Path, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command; a failure is raised with what it said."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, input=stdin)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done


def in_namespace(node: NodeNames) -> list[str]:
    """Words that run the command after them in a node's network, and in nothing else of its own."""
    return ["nsenter", f"--net=/run/netns/{node.namespace}", "--"]


def lay_bridge() -> None:
    """Make the bridge with the machine's own address on it."""
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    # A frame between two nodes is not the machine's to filter. The kernel asks for this and for the machine's own
    # setting, and where that is on (as Docker and kubeadm have it) a rule has to let them pass.
    run("ip", "link", "set", BRIDGE, "type", "bridge", "nf_call_iptables", "0")
    if _FILTERS_BRIDGES.exists() and _FILTERS_BRIDGES.read_text().strip() == "1":
        run("iptables", "--wait", "-I", *_PASS)
    run("ip", "address", "add", f"{HOST}/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")


def lay_node(node: NodeNames, others: Sequence[NodeNames]) -> None:
    """Make a node's namespace and link, with routes to the pods of `others`, and the machine's to its pods."""
    run("ip", "netns", "add", node.namespace)
    run("ip", "link", "add", node.device, "type", "veth", "peer", "name", "eth0", "netns", node.namespace)
    run("ip", "link", "set", node.device, "master", BRIDGE)
    run("ip", "link", "set", node.device, "up")
    inside = in_namespace(node)
    run(*inside, "ip", "address", "add", f"{node.address}/24", "dev", "eth0")
    run(*inside, "ip", "link", "set", "lo", "up")
    run(*inside, "ip", "link", "set", "eth0", "up")
    run(*inside, "ip", "route", "add", "default", "via", HOST)
    for other in others:
        run(*inside, "ip", "route", "add", other.pods, "via", other.address)
    for setting in ("net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"):
        run(*inside, "sysctl", "-qw", setting)
    run("ip", "route", "add", node.pods, "via", node.address, "dev", BRIDGE)


def plug(node: NodeNames, *, in_: bool) -> None:
    """Plug a node's cable in, or pull it."""
    run("ip", "link", "set", node.device, "up" if in_ else "down")


def flush_pods(node: NodeNames) -> None:
    """Remove what pods left in a node's network: their ends of cables and the rules of its filter."""
    inside = in_namespace(node)
    links = run(*inside, "ip", "-o", "link", "show", "type", "veth").stdout.splitlines()
    for line in links:
        device = line.split(": ")[1].partition("@")[0]
        if device != "eth0":
            run(*inside, "ip", "link", "delete", device, check=False)  # may go by itself, with its pod's namespace
    for table in ("filter", "nat", "mangle"):
        # Replaced by nothing, in one step: between two, the rules of policies could come back and need their chain.
        run(*inside, "iptables-restore", "--wait", stdin=f"*{table}\nCOMMIT\n")


def laid() -> list[str]:
    """Namespaces and links that there are of a cluster, a line each."""
    links = [path for path in Path("/sys/class/net").glob(f"{NAME}*") if path.name == BRIDGE or "-n" in path.name]
    return [
        *(f"network namespace {path.name}" for path in sorted(Path("/run/netns").glob(f"{NAME}-*"))),
        *(f"network device {path.name}" for path in sorted(links)),
    ]


def take_up() -> None:
    """Remove every namespace and link of the cluster, however far it got."""
    while run("iptables", "--wait", "-D", *_PASS, check=False).returncode == 0:
        pass
    for path in Path("/run/netns").glob(f"{NAME}-*"):
        run("ip", "netns", "delete", path.name)
    for path in Path("/sys/class/net").glob(f"{NAME}-n*"):
        run("ip", "link", "delete", path.name, check=False)  # goes with its other end, a moment after the namespace
    if Path(f"/sys/class/net/{BRIDGE}").exists():
        run("ip", "link", "delete", BRIDGE)
