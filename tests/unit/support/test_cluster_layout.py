"""Names and addresses of the native cluster: short enough for the kernel, and nobody has another's."""

from __future__ import annotations

import ipaddress
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.support.cluster import node_config
from tests.support.cluster.layout import BRIDGE, HOST, MAX_NODES, NODE_NETWORK, POD_NETWORK, Layout, NodeNames

NODES = [NodeNames(number) for number in range(1, MAX_NODES + 1)]
#: IFNAMSIZ and sizeof(sun_path), less the closing zero.
DEVICE_CHARACTERS, SOCKET_CHARACTERS = 15, 107


def test_addresses_lie_in_their_networks_and_differ() -> None:
    nodes, pods = ipaddress.ip_network(NODE_NETWORK), ipaddress.ip_network(POD_NETWORK)
    addresses = {HOST, *(node.address for node in NODES)}
    assert len(addresses) == MAX_NODES + 1
    assert all(ipaddress.ip_address(address) in nodes for address in addresses)
    ranges = [ipaddress.ip_network(node.pods) for node in NODES]
    assert len(set(ranges)) == MAX_NODES
    assert all(isinstance(one, ipaddress.IPv4Network) and one.subnet_of(pods) for one in ranges)  # type: ignore[arg-type]


def test_names_fit_what_the_kernel_takes() -> None:
    layout = Layout.default()
    assert all(len(name) <= DEVICE_CHARACTERS for name in (BRIDGE, *(node.device for node in NODES)))
    socket = layout.run / NODES[-1].name / "containerd.sock.ttrpc"
    assert len(str(socket)) <= SOCKET_CHARACTERS


def test_the_runtime_keeps_everything_in_the_nodes_own_folders(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("run", "store", "certs", "cni")]
    config = tomllib.loads(node_config.containerd_config(NODES[0], *folders))
    paths = [config["root"], config["state"], config["grpc"]["address"]]
    paths += [plugin["path"] for plugin in config["plugins"].values() if "path" in plugin]
    assert all(Path(path).is_relative_to(tmp_path) for path in paths)


@pytest.mark.parametrize("node", NODES[:2], ids=lambda node: node.name)
def test_the_kubelet_lets_in_nobody_without_the_clusters_authority(node: NodeNames, tmp_path: Path) -> None:
    layout = Layout(tmp_path, tmp_path)
    config = yaml.safe_load(node_config.kubelet_config(node, layout, tmp_path, tmp_path))
    assert config["authentication"]["anonymous"]["enabled"] is False
    assert config["authentication"]["x509"]["clientCAFile"] == str(layout.credentials / "ca.crt")
