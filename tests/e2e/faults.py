"""What befalls a crew: each fault as a function that brings it about on the cluster."""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING

from tests.e2e.jobs import newest
from tests.support.kube_api import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.jobs import Job
    from tests.support.kube_api import JsonObject

#: Prints the parent of each process in a container.
_PARENTS = """
import json, pathlib
stats = {p.parent.name: p.read_text() for p in pathlib.Path("/proc").glob("[0-9]*/stat")}
print(json.dumps({pid: stat.rpartition(")")[2].split()[1] for pid, stat in stats.items()}))
"""
#: Fills memory until the kernel says that it killed: by a process that is seen to be gone, it may have killed two.
_HOG = """
import os
from rowlock_trainer.launcher.process import out_of_memory_kills
before = out_of_memory_kills()
with open("/dev/shm/hog", "wb", buffering=0) as hog:
    os.unlink("/dev/shm/hog")
    while out_of_memory_kills() == before:
        hog.write(bytes(2**20))
"""


def exec_in(job: Job, worker: int, *command: str) -> str:
    """Run a command in a worker's container."""
    pod = job.pod(worker)["metadata"]["name"]
    return job.site.cluster.kubectl("exec", "-n", job.namespace, pod, "-c", "trainer", "--", *command)


def kill_rank(job: Job, worker: int) -> None:
    """SIGKILL a training process; its launcher, which is process 1, lives. Ranks are its warm parent's children."""
    parents: dict[str, str] = json.loads(exec_in(job, worker, "python3", "-c", _PARENTS))
    warm = {pid for pid, parent in parents.items() if parent == "1"}
    ranks = [pid for pid, parent in parents.items() if parent in warm]
    assert ranks, f"no training process found among {parents}"
    exec_in(job, worker, "python3", "-c", f"import os; os.kill({ranks[0]}, 9)")


def kill_container(job: Job, worker: int) -> None:
    """SIGKILL the container's first process, and so all of it."""
    pod = job.pod(worker)
    (container,) = (one for one in pod["status"]["containerStatuses"] if one["name"] == "trainer")
    job.site.cluster.kill_container(pod["spec"]["nodeName"], container["containerID"].partition("://")[2])


def delete_pod(job: Job, worker: int, *, force: bool = False) -> None:
    """`kubectl delete pod`, with the pod's own grace period or with none."""
    words = ["--grace-period=0", "--force"] if force else []
    name = job.pod(worker)["metadata"]["name"]
    job.site.cluster.kubectl("delete", "pod", "-n", job.namespace, name, "--wait=false", *words)


def run_out_of_memory(job: Job, worker: int) -> None:
    """Fill the container's memory until the kernel kills its largest process, and let go at once.

    What is in /dev/shm counts for the container but belongs to no process, so the victim is a rank, or the warm
    parent that ranks die with. Under cgroup v2 the kubelet has the kernel kill all of the container, this with it.
    """
    try:
        exec_in(job, worker, "python3", "-c", _HOG)
    except RuntimeError as error:
        if "exit code 137" not in str(error):
            raise


def drain(job: Job, node: str) -> None:
    """`kubectl drain`: cordon the node and evict what runs there, as before maintenance."""
    words = ["--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=120s"]
    job.site.cluster.kubectl("drain", node, *words)


def fill(volume: Path) -> Path:
    """Write to a volume until it takes no more; return the file that holds it full."""
    filler = volume / "filler"
    with filler.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(2**16))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                return filler


def flip_byte(job: Job) -> int:
    """Change one byte in the largest file of the newest checkpoint; return the checkpoint's step."""
    bad = newest(job.checkpoints)
    files = [path for path in (job.checkpoints / bad.name).rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 0x40
    largest.write_bytes(content)
    return bad.step


def ended(job: Job, pod: JsonObject, seconds: float = 60.0) -> None:
    """Wait until the trainer container of a pod has ended, so that nothing of it writes any more."""

    def over() -> bool:
        found = next((one for one in job.pods() if one["metadata"]["uid"] == pod["metadata"]["uid"]), None)
        states = (
            [] if found is None else [one for one in found["status"]["containerStatuses"] if one["name"] == "trainer"]
        )
        return found is None or "terminated" in states[0]["state"]

    wait_until(over, seconds, "the container has ended")


def replaced(job: Job, pod: JsonObject, seconds: float = 180.0) -> None:
    """Wait until another pod has the place of this one."""
    worker = int(pod["metadata"]["labels"]["rowlock.dev/worker"])

    def there() -> bool:
        found = [one for one in job.pods() if one["metadata"]["labels"]["rowlock.dev/worker"] == str(worker)]
        return any(one["metadata"]["uid"] != pod["metadata"]["uid"] for one in found)

    job.wait(there, f"worker {worker} has another pod", seconds)
