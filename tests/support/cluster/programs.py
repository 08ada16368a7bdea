"""The programs a native cluster is made of: Kubernetes and CoreDNS from Go modules, the rest from Debian."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.binaries import build
from tests.support.go_programs import BinariesError, program, say

if TYPE_CHECKING:
    from pathlib import Path

#: What is looked for, and the Debian package that has it.
DEBIAN = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "conntrack": "conntrack",
    "sysctl": "procps",
    "openssl": "openssl",
    "docker-registry": "docker-registry",
    "podman": "podman",
    "mmdebstrap": "mmdebstrap",
}
NODE_PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl")


@dataclass(frozen=True)
class Programs:
    """Where they are."""

    etcd: Path
    kubernetes: dict[str, Path]
    coredns: Path
    provisioner: Path
    pause: Path


def provide(links: Path) -> Programs:
    """Return all programs, building and installing what is missing.

    Args:
        links: Folder for the names under which the one Kubernetes binary is called.

    Raises:
        BinariesError: something is missing and cannot be had.
    """
    install_packages()
    control_plane = build()
    kube = (control_plane.apiserver.parent / "kube").resolve()
    links.mkdir(parents=True, exist_ok=True)
    names = {}
    for name in NODE_PROGRAMS:
        names[name] = links / name
        names[name].unlink(missing_ok=True)
        names[name].symlink_to(kube)
    return Programs(
        etcd=control_plane.etcd,
        kubernetes=names,
        coredns=program("coredns"),
        provisioner=program("rowlock-provisioner", module="provisioner"),
        pause=program("rowlock-pause", module="pause"),
    )


def install_packages() -> None:
    """Install the Debian packages that are missing.

    Raises:
        BinariesError: this is no Debian, or not root, or apt could not.
    """
    missing = sorted({package for name, package in DEBIAN.items() if shutil.which(name) is None})
    if not missing:
        return
    words = " ".join(missing)
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise BinariesError(f"the native cluster needs the packages {words} (Debian's names) and root")
    say(f"installing from Debian: {words}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    # Their services are not wanted: the cluster starts its own copies, in its own folders.
    commands = (["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing])
    for command in commands:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BinariesError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
