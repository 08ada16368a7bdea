"""Where images are built and tried: a tool, a base, and copies of what a checkout holds."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from images.build import build, inspect

ROOT = Path(__file__).parents[2]
#: What a container of podman is allowed at most. podman would ask for more than it may have on some machines.
LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000")


@dataclass(frozen=True)
class Shop:
    """Docker or podman, and names of the tests' own, so that no image of a release is replaced."""

    tool: str

    def build(self, target: str, *options: str, tag: str = "test", context: Path = ROOT, **arguments: str) -> str:
        """Build a target; return the image's name. Raises ImageError."""
        image = f"localhost/rowlock-test/{target}:{tag}"
        base = {"BASE_IMAGE": os.environ.get("BASE_IMAGE", "")}
        build(self.tool, target, image, base | arguments, *options, context=context)
        return image

    def layers(self, image: str) -> list[str]:
        """Digests of an image's layers, the lowest first."""
        return inspect(self.tool, image, "{{range .RootFS.Layers}}{{.}} {{end}}").split()

    def command(self, image: str, *words: str, options: tuple[str, ...] = (), entrypoint: str = "") -> list[str]:
        """The command line that runs a container as a pod does: as nobody's user, with nothing to write to but /tmp."""
        line = [self.tool, "run", "--rm", "--read-only", "--user=65532:65532", "--cap-drop=ALL", *options]
        line += ["--security-opt=no-new-privileges"]
        line += LIMITS if self.tool == "podman" else ["--tmpfs=/tmp"]
        return [*line, *([f"--entrypoint={entrypoint}"] if entrypoint else []), image, *words]

    def run(
        self, image: str, *words: str, options: tuple[str, ...] = ("--network=none",), entrypoint: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a container to its end."""
        command = self.command(image, *words, options=options, entrypoint=entrypoint)
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def python(self, image: str, program: str) -> str:
        """What a program printed in a container of the image."""
        done = self.run(image, "-c", program, entrypoint="python3")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def tracked() -> list[Path]:
    """Files of the checkout that git knows or would know, relative to its root."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [Path(name) for name in names if (ROOT / name).is_file()]


def copy_checkout(folder: Path) -> Path:
    """Copy the tracked files, with their times, into `folder`; return it."""
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder
