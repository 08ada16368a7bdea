"""Where etcd, kube-apiserver, kube-controller-manager and kubectl come from.

The tests run against the real programs, and whoever runs them should not have to fetch any by hand. A set
that is already there is taken first: KUBEBUILDER_ASSETS, then PATH. Else the sources in `kube/` and `etcd/`
are built with Go, once, into a cache. Building costs some minutes and half a gigabyte of Go's own cache;
in exchange the version is pinned by go.sum, on every machine and in CI alike.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(__file__).parent
#: Components that the one binary built from `kube/` runs, by the name it is called by.
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kubectl")
PROGRAMS = ("etcd", *COMPONENTS)
#: The first version with everything the CRD uses switched on: CEL rules, ratcheting, strict field validation.
OLDEST_KUBERNETES = (1, 30)


class BinariesError(Exception):
    """There is no usable control plane and none can be built."""


@dataclass(frozen=True)
class Binaries:
    """A complete set of programs in one folder, or found together on PATH."""

    etcd: Path
    apiserver: Path
    controller_manager: Path
    kubectl: Path


def say(text: str) -> None:
    """Tell who waits what is going on."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


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


def cache_root() -> Path:
    """Folder of built programs: ROWLOCK_CACHE, or the user's cache."""
    configured = os.environ.get("ROWLOCK_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "rowlock"


def _required(module: str, go_mod: Path) -> str:
    match = re.search(rf"^\s*{re.escape(module)} (v\S+)", go_mod.read_text(), re.MULTILINE)
    if match is None:
        raise BinariesError(f"{go_mod} does not require {module}")
    return match[1]


def _go_version() -> str | None:
    if shutil.which("go") is None:
        return None
    # In the module's own folder, where Go takes the toolchain line of go.mod into account.
    command = ["go", "env", "GOVERSION"]
    return subprocess.run(command, cwd=SOURCES / "kube", capture_output=True, text=True, check=True).stdout.strip()


def build() -> Binaries:
    """The set built from the pinned sources, from the cache if it is there.

    The cache is keyed by the versions, by Go's own version and by a digest of the sources. Without Go, a set
    that another version of Go built serves as well.

    Raises:
        BinariesError: there is neither a cached set nor Go, or Go could not build it.
    """
    kubernetes = _required("k8s.io/kubernetes", SOURCES / "kube" / "go.mod")
    etcd = _required("go.etcd.io/etcd/server/v3", SOURCES / "etcd" / "go.mod")
    sources = sorted(path for room in ("kube", "etcd") for path in (SOURCES / room).glob("*") if path.is_file())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    go = _go_version()
    pattern = f"kubernetes-{kubernetes}_etcd-{etcd}_{go or 'go*'}_{digest}"
    root = cache_root() / "control-plane"
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / ".lock"):
        cached = sorted(root.glob(pattern))
        if cached:
            return _in_folder(cached[-1])
        if go is None:
            raise BinariesError(
                "the API-server tests need etcd, kube-apiserver, kube-controller-manager and kubectl "
                f"(Kubernetes {'.'.join(map(str, OLDEST_KUBERNETES))} or newer). Put them into one folder "
                "and name it in KUBEBUILDER_ASSETS, or put them on PATH, or install Go to have them built."
            )
        with tempfile.TemporaryDirectory(dir=root, prefix=".building-") as folder:
            _build_into(Path(folder), kubernetes)
            # A rename is atomic: a build cut short never looks like a finished one.
            Path(folder).rename(root / pattern)
            Path(folder).mkdir()
    return _in_folder(root / pattern)


def _in_folder(folder: Path) -> Binaries:
    return Binaries(*(folder / name for name in PROGRAMS))


def _build_into(folder: Path, kubernetes: str) -> None:
    major, minor = kubernetes.lstrip("v").split(".")[:2]
    version = "k8s.io/component-base/version"
    stamps = {"gitVersion": kubernetes, "gitMajor": major, "gitMinor": minor}
    flags = "-s -w " + " ".join(f"-X {version}.{name}={value}" for name, value in stamps.items())
    say("building the control plane for the tests, once: some 8 minutes on two cores")
    _go_build(SOURCES / "etcd", folder / "etcd", "-s -w", "go.etcd.io/etcd/server/v3")
    _go_build(SOURCES / "kube", folder / "kube", flags, ".")
    for name in COMPONENTS:
        (folder / name).symlink_to("kube")
    # What mkdtemp made is for its owner only; a cache may be shared.
    folder.chmod(0o755)


def _go_build(module: Path, output: Path, flags: str, package: str) -> None:
    started = time.monotonic()
    say(f"  {output.name} from {module.name}/go.mod ...")
    command = ["go", "build", "-buildvcs=false", "-ldflags", flags, "-o", str(output), package]
    done = subprocess.run(command, cwd=module, env={**os.environ, "CGO_ENABLED": "0"}, check=False)
    if done.returncode != 0:
        raise BinariesError(f"go could not build {package} in {module}: its messages are above")
    say(f"  {output.name} done in {time.monotonic() - started:.0f} s")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process builds the control plane: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
