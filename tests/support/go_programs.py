"""Programs that the tests run and nobody should have to fetch by hand, built with Go into a cache.

A folder beside this file with a `go.mod` pins a program's version, and `go.sum` what it is made of, on every machine
and in CI alike. A program that is already there is taken first: KUBEBUILDER_ASSETS, then PATH. Else it is built,
once; the cache is keyed by its version, by Go's own and by a digest of the folder.
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
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCES = Path(__file__).parent


class BinariesError(Exception):
    """A program is not there and cannot be built."""


def say(text: str) -> None:
    """Tell who waits what is going on."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def cache_root() -> Path:
    """Folder of built programs: ROWLOCK_CACHE, or the user's cache."""
    configured = os.environ.get("ROWLOCK_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "rowlock"


def program(
    name: str,
    *,
    module: str | None = None,
    package: str | None = None,
    stamp: str | None = None,
    fits: Callable[[Path], bool] | None = None,
) -> Path:
    """Return the program `name`: from KUBEBUILDER_ASSETS, from PATH, or built from `tests/support/<name>/go.mod`.

    Args:
        name: What the program is called, on PATH and in the cache.
        module: The folder beside this file that holds its go.mod, when that is not called as the program is.
        package: What to build; else the one package that go.mod names as its tool, else the folder's own main package.
        stamp: The variable (`path/to/package.name`) that is to hold the version, for a program that shows it.
        fits: Says whether a program found outside the cache will do, as when it is too old; it says why not itself.

    Raises:
        BinariesError: it is nowhere, and there is no Go or the build failed.
    """
    for place in ("KUBEBUILDER_ASSETS", "PATH"):
        path = os.environ.get(place)
        found = shutil.which(name, path=path) if path else None
        if found is not None and (fits is None or fits(Path(found))):
            return Path(found).absolute()
    folder = SOURCES / (module or name)
    package = package or _tool(folder / "go.mod") or "."
    version = _version(package, folder / "go.mod")
    flags = "-s -w" + (f" -X {stamp}={version}" if stamp else "")
    missing = f"the tests need {name}: put it on PATH or into the folder that KUBEBUILDER_ASSETS names, or install Go"
    built = build_once(
        cache_root() / "programs",
        f"{name}-{version}",
        [folder],
        lambda into: go_build(folder, into / name, flags, package),
        missing=f"{missing} to have it built",
    )
    return built / name


def build_once(root: Path, title: str, sources: list[Path], build: Callable[[Path], None], *, missing: str) -> Path:
    """Return a finished folder below `root`, which `build` fills if it is not there yet.

    Without Go, what another version of Go built from the same sources serves as well.

    Args:
        root: Where such folders are kept.
        title: Names and versions: how the folder's own name begins.
        sources: Module folders whose files it is made of.
        build: Fills the folder it is given.
        missing: The error's message when there is neither a cached folder nor Go.

    Raises:
        BinariesError: there is neither a cached folder nor Go, or Go could not build it.
    """
    files = sorted(path for folder in sources for path in folder.rglob("*") if path.is_file())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
    go = _go_version(sources[0])
    pattern = f"{title}_{go or 'go*'}_{digest}"
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / ".lock", title):
        cached = sorted(root.glob(pattern))
        if cached:
            return cached[-1]
        if go is None:
            raise BinariesError(missing)
        with tempfile.TemporaryDirectory(dir=root, prefix=".building-") as folder:
            build(Path(folder))
            # What mkdtemp made is for its owner only; a cache may be shared.
            Path(folder).chmod(0o755)
            # A rename is atomic: a build cut short never looks like a finished one.
            Path(folder).rename(root / pattern)
            Path(folder).mkdir()
    return root / pattern


def go_build(module: Path, output: Path, flags: str, package: str) -> None:
    """Build `package` of the module in folder `module`.

    Raises:
        BinariesError: Go could not; its own messages are on stderr.
    """
    started = time.monotonic()
    say(f"  {output.name} from {module.name}/go.mod ...")
    command = ["go", "build", "-buildvcs=false", "-ldflags", flags, "-o", str(output), package]
    done = subprocess.run(command, cwd=module, env={**os.environ, "CGO_ENABLED": "0"}, check=False)
    if done.returncode != 0:
        raise BinariesError(f"go could not build {package} in {module}: its messages are above")
    say(f"  {output.name} done in {time.monotonic() - started:.0f} s")


def required(module: str, go_mod: Path) -> str:
    """Return the version of `module` that `go_mod` requires.

    Raises:
        BinariesError: it requires none.
    """
    match = re.search(rf"^(?:require)?\s*{re.escape(module)} (v\S+)", go_mod.read_text(), re.MULTILINE)
    if match is None:
        raise BinariesError(f"{go_mod} does not require {module}")
    return match[1]


def _tool(go_mod: Path) -> str | None:
    """Return the one package that `go_mod` names as a tool, None if there is none or a choice."""
    tools = re.findall(r"^tool\s+([^\s(]+)$", go_mod.read_text(), re.MULTILINE)
    return str(tools[0]) if len(tools) == 1 else None


def _version(package: str, go_mod: Path) -> str:
    """Return the version of the module that `package` lies in; the folder's own code has none but its digest."""
    parts = package.split("/")
    for length in range(len(parts), 0, -1):
        try:
            return required("/".join(parts[:length]), go_mod)
        except BinariesError:
            continue
    return "own"


def _go_version(module: Path) -> str | None:
    if shutil.which("go") is None:
        return None
    # In the module's own folder, where Go takes the toolchain line of go.mod into account.
    command = ["go", "env", "GOVERSION"]
    return subprocess.run(command, cwd=module, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def _locked(path: Path, what: str) -> Iterator[None]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process builds what {what} needs: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
