"""Where etcd, kube-apiserver, kube-controller-manager and kubectl come from.

The tests run against the real programs, and whoever runs them should not have to fetch any by hand. A set
that is already there is taken first: KUBEBUILDER_ASSETS, then PATH. Else the sources in `kube/` and `etcd/`
are built with Go, once, into a cache. Building costs some minutes and half a gigabyte of Go's own cache;
in exchange the version is pinned by go.sum, on every machine and in CI alike.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.go_programs import SOURCES, BinariesError, build_once, cache_root, go_build, required, say

__all__ = ["Binaries", "BinariesError", "build", "cache_root", "find_or_build", "say"]

#: Components that the one binary built from `kube/` runs, by the name it is called by.
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kubectl")
PROGRAMS = ("etcd", *COMPONENTS)
#: The first version with everything the CRD uses switched on: CEL rules, ratcheting, strict field validation.
OLDEST_KUBERNETES = (1, 30)


@dataclass(frozen=True)
class Binaries:
    """A complete set of programs in one folder, or found together on PATH."""

    etcd: Path
    apiserver: Path
    controller_manager: Path
    kubectl: Path


def find_or_build() -> Binaries:
    """The first complete and new enough set; builds one if there is none.

    Raises:
        BinariesError: no set was found, and there is no Go or the build failed.
    """
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    for place, path in (("KUBEBUILDER_ASSETS", assets), ("PATH", os.environ.get("PATH"))):
        found = _complete_set(place, path) if path else None
        if found is not None:
            return found
    return build()


def _complete_set(place: str, path: str) -> Binaries | None:
    where = {name: shutil.which(name, path=path) for name in PROGRAMS}
    missing = [name for name, program in where.items() if program is None]
    apiserver = where["kube-apiserver"]
    if apiserver is None or missing:
        if len(missing) < len(PROGRAMS) and apiserver is not None:
            say(f"{place} holds no whole control plane, {', '.join(missing)} missing: looking further")
        return None
    version = _version_of(apiserver)
    if version < OLDEST_KUBERNETES:
        say(f"{apiserver} is version {version}, older than {OLDEST_KUBERNETES}: looking further")
        return None
    return Binaries(*(Path(program).absolute() for program in where.values() if program is not None))


def _version_of(apiserver: str) -> tuple[int, int]:
    answer = subprocess.run([apiserver, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"v(\d+)\.(\d+)", answer)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def build() -> Binaries:
    """The set built from the pinned sources, from the cache if it is there.

    Raises:
        BinariesError: there is neither a cached set nor Go, or Go could not build it.
    """
    kubernetes = required("k8s.io/kubernetes", SOURCES / "kube" / "go.mod")
    etcd = required("go.etcd.io/etcd/server/v3", SOURCES / "etcd" / "go.mod")
    folder = build_once(
        cache_root() / "control-plane",
        f"kubernetes-{kubernetes}_etcd-{etcd}",
        [SOURCES / "kube", SOURCES / "etcd"],
        lambda into: _build_into(into, kubernetes),
        missing=(
            "the API-server tests need etcd, kube-apiserver, kube-controller-manager and kubectl "
            f"(Kubernetes {'.'.join(map(str, OLDEST_KUBERNETES))} or newer). Put them into one folder "
            "and name it in KUBEBUILDER_ASSETS, or put them on PATH, or install Go to have them built."
        ),
    )
    return Binaries(*(folder / name for name in PROGRAMS))


def _build_into(folder: Path, kubernetes: str) -> None:
    major, minor = kubernetes.lstrip("v").split(".")[:2]
    version = "k8s.io/component-base/version"
    stamps = {"gitVersion": kubernetes, "gitMajor": major, "gitMinor": minor}
    flags = "-s -w " + " ".join(f"-X {version}.{name}={value}" for name, value in stamps.items())
    say("building the control plane for the tests, once: some 8 minutes on two cores")
    go_build(SOURCES / "etcd", folder / "etcd", "-s -w", "go.etcd.io/etcd/server/v3")
    go_build(SOURCES / "kube", folder / "kube", flags, ".")
    for name in COMPONENTS:
        (folder / name).symlink_to("kube")
