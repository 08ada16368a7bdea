"""The programs a native cluster is made of: Kubernetes and CoreDNS from Go modules, the rest from Debian."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.binaries import build
from tests.support.go_programs import BinariesError, program, say

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Asked by Debian's packages whether a service may be started; 101 is no (invoke-rc.d(8)).
POLICY = Path("/usr/sbin/policy-rc.d")
#: Packages that are services too.
SERVICES = frozenset({"containerd", "docker-registry"})
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
        # In one step: another command may be about to start it.
        made = links / f".{name}-{os.getpid()}"
        made.symlink_to(kube)
        made.replace(names[name])
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
    with _no_services_started():
        _apt("update")
        _apt("install", "-y", "--no-install-recommends", *missing)
    # Nor after the next boot.
    units = sorted(SERVICES & set(missing))
    if units and Path("/run/systemd/system").exists():
        subprocess.run(["systemctl", "disable", "--quiet", *units], check=True)


def _apt(command: str, *words: str) -> None:
    line = ["apt-get", command, "-qq", *words]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BinariesError(f"{' '.join(line)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")


@contextlib.contextmanager
def _no_services_started() -> Iterator[None]:
    """Debian starts what it installs, unless this file says no: the cluster has its own copies, in its own folders."""
    if POLICY.exists():  # somebody's own, who will know
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
