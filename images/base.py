"""``make base-image``: a base for Rowlock's images out of Debian packages, where no image registry can be reached.

The base is made once and kept as an archive in the cache, keyed by what it is made of. Packages come from where this
machine's own do.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from images.build import ImageError, find_tool

#: The first release with Python 3.11.
SUITE = "bookworm"
#: Python with venv, and what torch's libraries and the network need beside it. Debian's essential packages bring a
#: shell and coreutils; there is no apt.
PACKAGES = ("ca-certificates", "libstdc++6", "python3", "python3-venv")
#: Left out of the packages, as Debian's own slim images do; the licences stay.
LEFT_OUT = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
)
#: What mmdebstrap copies from the machine it runs on: its mirrors, its name, its resolver.
OF_THIS_MACHINE = ("etc/apt/sources.list", "etc/apt/sources.list.d", "etc/hostname", "etc/resolv.conf")
RECIPE = (
    "mmdebstrap",
    "--variant=essential",
    f"--include={','.join(PACKAGES)}",
    *(f"--dpkgopt={option}" for option in LEFT_OUT),
    *(f'--customize-hook=rm -rf "$1/{path}"' for path in OF_THIS_MACHINE),
)


def apt_sources(suite: str) -> list[str]:
    """Return this machine's own files of apt sources, if they are for `suite`; else mmdebstrap has its defaults."""
    if platform.freedesktop_os_release().get("VERSION_CODENAME") != suite:
        return []
    apt = Path("/etc/apt")
    parts = (file for ending in ("list", "sources") for file in sorted(apt.glob(f"sources.list.d/*.{ending}")))
    return [str(file) for file in (apt / "sources.list", *parts) if file.is_file()]


def bootstrap(archive: Path, suite: str) -> None:
    """Write the base image's files into `archive`, a tar file.

    Raises:
        ImageError: mmdebstrap is not there or failed.
    """
    if shutil.which("mmdebstrap") is None:
        raise ImageError("a base image is made by mmdebstrap, which is not there (Debian package mmdebstrap)")
    # A name that tar can be told by, and that no finished archive has.
    unfinished = archive.with_suffix(".unfinished.tar")
    done = subprocess.run([*RECIPE, suite, str(unfinished), *apt_sources(suite)], stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise ImageError(f"mmdebstrap could not make a base of Debian {suite}: its messages are above")
    unfinished.rename(archive)


def load(tool: str, archive: Path, image: str) -> None:
    """Make `image` of the archive, unless it is that already: a new image would cost every layer built upon it."""
    with archive.open("rb") as file:
        layer = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    command = [tool, "image", "inspect", "--format={{index .RootFS.Layers 0}}", image]
    if subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() != layer:
        subprocess.run([tool, "import", str(archive), image], stdout=sys.stderr, check=True)


def main() -> None:
    """Make the base image, or take it from the cache, and load it."""
    parser = argparse.ArgumentParser(prog="images.base", description=__doc__)
    parser.add_argument("--suite", default=SUITE, help="Debian release with Python 3.11 or newer (%(default)s)")
    suite = parser.parse_args().suite
    image = f"localhost/rowlock-base:{suite}"
    key = hashlib.sha256("\n".join(RECIPE).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("ROWLOCK_CACHE") or Path.home() / ".cache" / "rowlock") / "base-image"
    cache.mkdir(parents=True, exist_ok=True)
    archive = cache / f"{suite}_{platform.machine()}_{key}.tar"
    try:
        tool = find_tool()
        if not archive.exists():
            bootstrap(archive, suite)
        load(tool, archive, image)
    except ImageError as error:
        sys.exit(f"make base-image: {error}")
    sys.stdout.write(f"{image}\n")


if __name__ == "__main__":
    main()
