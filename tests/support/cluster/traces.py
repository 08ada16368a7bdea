"""What a cluster leaves on the machine outside of its own folders, and how it is taken back.

Kubelets set kernel parameters of the machine as a whole; kubelet, containerd and the network plugins write into
folders whose names are fixed in their programs and that another cluster's may share: only what is ours goes.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.cluster.layout import NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.cluster.layout import Layout

#: What a kubelet sets (pkg/kubelet/cm, setupKernelTunables), as files below /proc/sys.
TUNABLES = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
#: The socket at which every kubelet of a machine listens for device plugins, whatever its own folder is.
DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins/kubelet.sock")
#: Links to containers' logs, from every kubelet of the machine.
LOG_LINKS = Path("/var/log/containers")
#: What network plugins remember of each container, by the name of its network.
NETWORK_RESULTS = Path("/var/lib/cni/results")
#: The containers' network, by its name in these results.
NETWORK = f"{NAME}-pods"
_SHIM_SOCKETS = Path("/run/containerd/s")


def refuse_beside_a_kubelet() -> None:
    """Raise RuntimeError where a kubelet runs already: ours would take its device plugins' sockets away."""
    if DEVICE_PLUGINS.exists() and _answers(DEVICE_PLUGINS):
        raise RuntimeError(
            f"a kubelet runs on this machine (it answers at {DEVICE_PLUGINS}): the native cluster's would remove the "
            "sockets of its device plugins. Take a machine that is no node of a cluster"
        )


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except OSError:
            return False
    return True


def note_tunables(layout: Layout) -> None:
    """Write down what the kernel's parameters are before a kubelet sets them."""
    values = {name: _file(name).read_text().strip() for name in TUNABLES if _file(name).exists()}
    _note(layout).write_text(json.dumps(values))


def _file(name: str) -> Path:
    return Path("/proc/sys") / name


def _note(layout: Layout) -> Path:
    return layout.run / "tunables.json"


def take_back(layout: Layout) -> None:
    """Set the kernel's parameters as they were, and remove what is ours of folders that are not; before the folders."""
    if _note(layout).exists():
        for name, value in json.loads(_note(layout).read_text()).items():
            if _file(name).read_text().strip() != value:
                _file(name).write_text(value)
    for path in left(layout):
        path.unlink(missing_ok=True)


def left(layout: Layout) -> list[Path]:
    """Files outside of the cluster's folders that are its own."""
    sockets = [path for node in layout.run.glob("*/containerd") for path in shim_sockets(node)]
    return sorted({*sockets, *_log_links(layout), *_network_results(), *_plugin_sockets()})


def tasks(runtime: Path) -> list[Path]:
    """Return the folders of all containers that a containerd whose state is in `runtime` runs, or ran when it died."""
    return list(runtime.glob("io.containerd.runtime.v2.task/k8s.io/*"))


def shim_sockets(runtime: Path) -> Iterator[Path]:
    """Sockets of a containerd's shims. Each is named in its container's folder, and nowhere else."""
    for task in tasks(runtime):
        address = task / "address"
        if address.is_file():
            path = Path(address.read_text().strip().removeprefix("unix://"))
            if path.parent == _SHIM_SOCKETS and path.exists():
                yield path


def _network_results() -> Iterator[Path]:
    for result in NETWORK_RESULTS.glob(f"{NETWORK}-*"):
        yield result
        container = result.name.removeprefix(f"{NETWORK}-").partition("-")[0]
        yield from NETWORK_RESULTS.glob(f"cni-loopback-{container}-*")


def _log_links(layout: Layout) -> Iterator[Path]:
    for link in LOG_LINKS.glob("*"):
        if link.is_symlink() and link.readlink().is_relative_to(layout.state):
            yield link


def _plugin_sockets() -> Iterator[Path]:
    if DEVICE_PLUGINS.exists() and not _answers(DEVICE_PLUGINS):
        yield DEVICE_PLUGINS


def container_processes(layout: Layout) -> list[int]:
    """Processes in the control groups of the cluster's containers, whose shims may be gone."""
    pids: list[int] = []
    for task in (task for node in layout.run.glob("*/containerd") for task in tasks(node)):
        for group in control_groups(task.name):
            with contextlib.suppress(FileNotFoundError):  # just removed
                pids += [int(line) for line in (group / "cgroup.procs").read_text().split()]
    return sorted(set(pids))


def control_groups(container: str) -> list[Path]:
    """A container's control groups, of version 1 (one for each controller) or 2."""
    root = Path("/sys/fs/cgroup")
    return [*root.glob(f"*/k8s.io/{container}"), *root.glob(f"k8s.io/{container}")]
