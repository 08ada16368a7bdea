"""Workers have names: before they are ready, and after they have moved to another address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.e2e import faults
from tests.e2e.site import TRAINER_IMAGE
from tests.support.kube_api import wait_until

if TYPE_CHECKING:
    from tests.e2e.jobs import Job
    from tests.e2e.scene import Scene

#: What a name server may cache (kubeadm's Corefile says 30 s), and the time to notice a new pod.
CACHED_SECONDS = 90.0
#: In an init container a pod has an address and is not ready: these end only if names are published before that.
_BOTH_RESOLVE = """
import socket, time
names = ["crew-worker-0.crew", "crew-worker-1.crew"]
while names:
    try:
        socket.getaddrinfo(names[0], None)
        names.pop(0)
    except socket.gaierror:
        time.sleep(0.5)
"""


def address_of(job: Job, name: str, asker: int) -> str:
    """The address a name has for a worker."""
    return faults.exec_in(job, asker, "python3", "-c", f"import socket; print(socket.gethostbyname('{name}'))").strip()


def test_names_resolve_before_pods_are_ready_and_follow_a_pod_to_its_new_address(scene: Scene) -> None:
    waiting = {
        "name": "names",
        "image": TRAINER_IMAGE,
        "command": ["python3", "-c", _BOTH_RESOLVE],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    with scene.at_step(preemptions=1, template={"spec": {"initContainers": [waiting]}}) as job:
        name = f"crew-worker-0.crew.{scene.namespace}.svc"
        before = job.pod(0)
        assert address_of(job, name, asker=1) == before["status"]["podIP"]
        faults.delete_pod(job, 0, force=True)
        faults.replaced(job, before)
        job.until(lambda status: status["generation"] == 2 and status["phase"] == "Running", "the crew trains again")
        now = job.pod(0)["status"]["podIP"]
        assert now != before["status"]["podIP"]
        wait_until(lambda: address_of(job, name, asker=1) == now, CACHED_SECONDS, "the name has the new address", 1.0)
