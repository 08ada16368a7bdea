"""``make image``: build Rowlock's images with docker or podman, and say how big they are and how long it took.

Needs nothing but the standard library, so that an image can be built without the gigabytes of a development setup.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import rowlock
from images.pip_settings import write_pip_settings

ROOT = Path(__file__).resolve().parent.parent
#: The Dockerfile's targets that are released.
RELEASED = ("operator", "trainer")


class ImageError(Exception):
    """No image can be built; the message says what is missing or that the tool's own words are above."""


def find_tool() -> str:
    """Return docker if its daemon answers, else podman; or what `IMAGE_TOOL` asks for.

    Raises:
        ImageError: There is neither, or not the one that is asked for.
    """
    asked = os.environ.get("IMAGE_TOOL", "")
    if asked not in ("", "docker", "podman"):
        raise ImageError(f"IMAGE_TOOL is {asked!r}, must be docker or podman")
    if asked:
        if shutil.which(asked) is None:
            raise ImageError(f"IMAGE_TOOL is {asked}, and there is no {asked} here")
        return asked
    if shutil.which("docker"):
        answer = subprocess.run(["docker", "version"], capture_output=True, check=False)
        if answer.returncode == 0:
            return "docker"
    if shutil.which("podman"):
        return "podman"
    raise ImageError(
        "no Docker daemon answers and there is no podman. Install one of them: Docker Engine 23 or newer, or podman "
        "4.3 or newer (Debian packages podman, buildah and runc)"
    )


def file_limit() -> str:
    """Return the flag that holds a build by podman to this process's own limit of open files.

    podman asks for a higher one, which the kernel refuses where even root may not raise it.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return f"--ulimit=nofile={hard}:{hard}"


def revision() -> str:
    """Return the commit the checkout is at, with "-dirty" if it holds more than that; empty outside a checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def build(tool: str, target: str, image: str, arguments: dict[str, str], *options: str, context: Path = ROOT) -> None:
    """Build one target of the Dockerfile and tag it `image`.

    Args:
        tool: docker or podman.
        target: Stage of the Dockerfile.
        image: Name with tag.
        arguments: Build arguments; those without a value are left to the Dockerfile.
        options: More flags for the tool.
        context: Folder that holds the Dockerfile and all that it copies.

    Raises:
        ImageError: The build failed.
    """
    # The host's network: a package index may be reached through a proxy on this very machine.
    command = [tool, "build", "--network=host", f"--target={target}", f"--tag={image}", *options]
    command += [f"--build-arg={name}={value}" for name, value in arguments.items() if value]
    labels = {"version": rowlock.__version__, "revision": revision()}
    command += [f"--label=org.opencontainers.image.{name}={value}" for name, value in labels.items() if value]
    environment = os.environ.copy()
    if tool == "docker":
        environment["DOCKER_BUILDKIT"] = "1"
    else:
        command.append(file_limit())
    with tempfile.TemporaryDirectory() as folder:
        secrets = write_pip_settings(Path(folder))
        command += [f"--secret=id={name},src={file}" for name, file in secrets.items()]
        # What the tool says goes to stderr: stdout is for the table.
        done = subprocess.run([*command, "."], cwd=context, env=environment, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        way_out = (
            ""
            if arguments.get("BASE_IMAGE")
            else (
                ". If it could not pull the base: `make base-image` makes one without a registry, then "
                "BASE_IMAGE=localhost/rowlock-base:bookworm"
            )
        )
        raise ImageError(f"{tool} could not build the target {target}: its messages are above{way_out}")


def inspect(tool: str, image: str, template: str) -> str:
    """Return what the tool knows of an image, as a Go template says."""
    command = [tool, "image", "inspect", f"--format={template}", image]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def size(tool: str, image: str) -> int:
    """Return the bytes of all layers of an image, uncompressed."""
    return int(inspect(tool, image, "{{.Size}}"))


def main() -> None:
    """Build what the command line asks for."""
    parser = argparse.ArgumentParser(prog="images.build", description=__doc__)
    parser.add_argument("targets", nargs="*", default=RELEASED, help="default: %(default)s; also: torch")
    parser.add_argument("--prefix", default="ghcr.io/rowlock", help="what goes before the target's name")
    parser.add_argument("--tag", default="", help="default: the version, " + rowlock.__version__)
    parser.add_argument("--base-image", default="", help="Python 3.11 or newer with venv, and libstdc++")
    parser.add_argument("--torch-index-url", default="", help="index of another build of torch, see the Dockerfile")
    options = parser.parse_args()
    arguments = {
        "BASE_IMAGE": options.base_image,
        "TORCH_INDEX_URL": options.torch_index_url,
    }
    rows = []
    try:
        tool = find_tool()
        for target in options.targets:
            image = f"{options.prefix}/{target}:{options.tag or rowlock.__version__}"
            started = time.monotonic()
            build(tool, target, image, arguments)
            rows.append((image, size(tool, image) / 1e6, time.monotonic() - started))
    except ImageError as error:
        sys.exit(f"make image: {error}")
    for image, megabytes, seconds in rows:
        sys.stdout.write(f"{image:<40} {megabytes:8.1f} MB {seconds:8.1f} s\n")


if __name__ == "__main__":
    main()
