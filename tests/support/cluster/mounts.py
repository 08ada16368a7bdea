"""What the kernel still holds of a dead node: mounts and control groups, and how to get rid of them."""

from __future__ import annotations

import errno
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.cluster import traces
from tests.support.cluster.network import run
from tests.support.kube_api import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

#: A killed process leaves its group as soon as its parent or init has reaped it.
EMPTY_SECONDS = 30.0


def mounted_below(*folders: Path) -> list[Path]:
    """Mount points in `folders`, the newest first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    # The fifth field; spaces and the like are octal there, and none of ours has any (proc(5)).
    points = [Path(line.split()[4]) for line in lines]
    return [point for point in reversed(points) if _is_below(point, folders)]


def unmount_below(*folders: Path) -> None:
    """Unmount everything in `folders`."""
    for point in mounted_below(*folders):
        # Lazily: a process that is just ending may still stand in it.
        run("umount", "--lazy", point)


def _is_below(point: Path, folders: Iterable[Path]) -> bool:
    return any(point.is_relative_to(folder.resolve()) for folder in folders)


def remove_cgroups(*runtimes: Path) -> None:
    """Remove the control groups of all containers whose state these runtimes keep; their processes are gone."""
    for task in (task for runtime in runtimes for task in traces.tasks(runtime)):
        for group in traces.control_groups(task.name):
            wait_until(partial(_removed, group), EMPTY_SECONDS, f"{group} is empty")
    for parent in traces.control_groups(""):
        if not any(path.is_dir() for path in parent.iterdir()):
            parent.rmdir()


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:  # a killed process is not yet reaped
            raise
        return False
    return True
