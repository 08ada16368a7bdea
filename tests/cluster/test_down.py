"""Whatever is killed when: removing the native cluster leaves the machine as it was before."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.cluster.daemons import command_lines
from tests.support.cluster.layout import Layout
from tests.support.cluster.native import NativeCluster, down, is_component, leftovers
from tests.support.cluster.network import run
from tests.support.cluster.node_config import PAUSE_IMAGE
from tests.support.cluster.traces import TUNABLES, control_groups
from tests.support.kube_api import wait_until
from tests.support.restricted import CONTAINER_SECURITY, POD_SECURITY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Start takes 15 to 25 s on two idle cores; building what it takes is not part of it.
START_SECONDS = 300.0


@dataclass(frozen=True)
class Machine:
    """What a cluster could leave on the machine outside of its own folders."""

    programs: frozenset[str]
    links: frozenset[str]
    routes: frozenset[str]
    filters: frozenset[str]
    mounts: frozenset[str]
    groups: frozenset[str]
    tunables: frozenset[str]

    @classmethod
    def now(cls) -> Machine:
        links = json.loads(run("ip", "-json", "link", "show").stdout)
        return cls(
            programs=frozenset(f"{pid} {line[0]}" for pid, line in command_lines().items() if is_component(line)),
            links=frozenset(link["ifname"] for link in links),
            routes=frozenset(run("ip", "route", "show", "table", "all").stdout.splitlines()),
            filters=frozenset(line for line in run("iptables-save").stdout.splitlines() if line.startswith("-A")),
            mounts=frozenset(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
            groups=frozenset(str(path) for path in control_groups("*")),
            tunables=frozenset(f"{name} {Path('/proc/sys', name).read_text().strip()}" for name in TUNABLES),
        )


@pytest.fixture
def layout() -> Iterator[Layout]:
    layout = Layout.default()
    if left := leftovers(layout):
        words = "\n".join(left)
        pytest.fail(f"a cluster is here already; `make cluster-down` first:\n{words}", pytrace=False)
    yield layout
    down(layout)


def starting() -> subprocess.Popen[bytes]:
    """`make cluster` without images, in a session of its own that can be killed as a whole."""
    program = "from tests.support.cluster.native import NativeCluster; NativeCluster.up(2)"
    return subprocess.Popen([sys.executable, "-c", program], start_new_session=True)


def recorded(layout: Layout, name: str) -> Callable[[], bool]:
    return (layout.run / "processes" / f"{name}.json").exists


@pytest.mark.parametrize(
    "last",
    ["registry", "node-1-containerd", "etcd", "kube-apiserver", "node-2-kubelet", "isolation", "node-2-kube-proxy"],
)
def test_a_start_that_is_killed_half_way_leaves_nothing_once_the_cluster_is_removed(layout: Layout, last: str) -> None:
    before = Machine.now()
    process = starting()
    try:
        wait_until(recorded(layout, last), START_SECONDS, f"{last} is started")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert leftovers(layout)
    down(layout)
    assert leftovers(layout) == []
    assert Machine.now() == before


def test_a_cluster_with_a_pod_whose_containerd_was_killed_leaves_nothing(layout: Layout) -> None:
    before = Machine.now()
    cluster = NativeCluster.up(1)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "left"},
        "spec": {
            "securityContext": POD_SECURITY,
            "containers": [
                {"name": "pause", "image": PAUSE_IMAGE, "securityContext": CONTAINER_SECURITY},
            ],
        },
    }
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/left", "--timeout=120s")
    assert Machine.now().groups > before.groups
    record = json.loads((layout.run / "processes" / "node-1-containerd.json").read_text())
    os.kill(record["pid"], signal.SIGKILL)
    down(layout)
    assert leftovers(layout) == []
    assert Machine.now() == before


def test_who_only_reads_a_file_of_the_cluster_is_left_alone(layout: Layout) -> None:
    layout.logs.mkdir(parents=True)
    log = layout.logs / "etcd.log"
    log.write_text("a line\n")
    reader = subprocess.Popen(["tail", "-f", str(log)], stdout=subprocess.PIPE, text=True)
    try:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "a line\n"
        down(layout)
        assert reader.poll() is None
    finally:
        reader.kill()
        reader.wait()
