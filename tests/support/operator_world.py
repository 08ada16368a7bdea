"""A cluster in small for the operator's tests: a real API server, the real operator, and nodes played.

`World` holds the parts and the few questions tests ask again and again. When it closes it looks for every
job's token in all that the operator wrote: log, status, events, pods.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fake_crew import FakeCrew
from tests.support.fake_kubelet import FakeKubelet
from tests.support.kube_api import wait_until
from tests.support.operator_process import OperatorProcess, operator_kubeconfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.control_plane import ControlPlane
    from tests.support.kube_api import Answer, KubeApi

JsonObject = dict[str, Any]

#: Everything here takes a second or two on an idle machine; a loaded one gets this long.
DEADLINE_SECONDS = 60.0
#: Of an operator that isolates jobs: within this time a policy that was deleted is back.
RESYNC_SECONDS = 2
JOBS = "distributedtrainingjobs"


def job_manifest(name: str, workers: int = 2, **spec: Any) -> JsonObject:
    """A small job; `spec` replaces parts of its spec."""
    return {
        "apiVersion": "rowlock.dev/v1alpha1",
        "kind": "DistributedTrainingJob",
        "metadata": {"name": name},
        "spec": {
            "workers": workers,
            "trainer": {"model": {"mlp": {}}, "data": "digits", "globalBatchSize": 64, "steps": 1000},
            "recovery": {"backoff": {"initialSeconds": 0, "maxSeconds": 0}},
            **spec,
        },
    }


class World:
    """One namespace with an operator, a kubelet and launchers."""

    def __init__(
        self, plane: ControlPlane, namespace: str, directory: Path, log_level: str = "debug", *, isolates: bool = False
    ) -> None:
        self.plane = plane
        self.api: KubeApi = plane.client()
        self.namespace = namespace
        self.directory = directory
        self.crew = FakeCrew()
        self.kubelet = FakeKubelet(plane, self.crew, namespace)
        self.operator = OperatorProcess(
            operator_kubeconfig(plane, directory, isolates=isolates),
            directory,
            namespace,
            f"--log-level={log_level}",
            *(["--isolate-jobs", f"--resync-seconds={RESYNC_SECONDS}"] if isolates else []),
        )

    def close(self) -> None:
        """End everything, and hold the operator to its promise about secrets."""
        exit_code = self.operator.stop()
        self.kubelet.close()
        self.crew.close()
        self._assert_no_secret_shows()
        assert exit_code == 0, self.operator.log.read_text()

    def play_kubelet(self, namespace: str) -> FakeKubelet:
        """Play the nodes of another namespace; the caller closes it."""
        return FakeKubelet(self.plane, self.crew, namespace)

    # --- asking -----------------------------------------------------------------------------------

    def path(self, resource: str, name: str = "") -> str:
        """Path of a resource's collection, or of one object, in this namespace."""
        group = "/apis/rowlock.dev/v1alpha1" if resource.startswith(JOBS) else "/api/v1"
        return f"{group}/namespaces/{self.namespace}/{resource}" + (f"/{name}" if name else "")

    def get(self, resource: str, name: str) -> JsonObject:
        """One object."""
        return self.api.get(self.path(resource, name)).ok()

    def exists(self, resource: str, name: str) -> bool:
        """Whether there is such an object."""
        return self.api.get(self.path(resource, name)).status == 200

    def status(self, job: str) -> JsonObject:
        """A job's status."""
        status = self.get(JOBS, job).get("status", {})
        assert isinstance(status, dict)
        return status

    def pod(self, job: str, worker: int) -> JsonObject:
        """A worker's pod."""
        return self.get("pods", f"{job}-worker-{worker}")

    def condition(self, job: str, kind: str) -> JsonObject:
        """A job's condition, empty when it has none of that type."""
        conditions = self.status(job).get("conditions", [])
        return next((one for one in conditions if one["type"] == kind), {})

    def events(self, job: str) -> list[JsonObject]:
        """The events about a job."""
        return [one for one in self.api.list(self.path("events")) if one["involvedObject"]["name"] == job]

    def event_reasons(self, job: str) -> set[str]:
        """The reasons of a job's events."""
        return {event["reason"] for event in self.events(job)}

    # --- doing ------------------------------------------------------------------------------------

    def apply(self, manifest: JsonObject) -> JsonObject:
        """Create a job."""
        return self.api.create(self.path(JOBS), manifest, fieldValidation="Strict").ok()

    def change(self, job: str, **spec: Any) -> JsonObject:
        """Change parts of a job's spec."""
        return self.api.merge(self.path(JOBS, job), {"spec": spec}).ok()

    def delete(self, job: str) -> Answer:
        """Delete a job, as kubectl does by default."""
        return self.api.request("DELETE", self.path(JOBS, job), {"propagationPolicy": "Background"}, "application/json")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition; a failure shows the jobs' status and the operator's last words."""
        try:
            wait_until(condition, DEADLINE_SECONDS, what)
        except TimeoutError as error:
            jobs = {job["metadata"]["name"]: job.get("status") for job in self.api.list(self.path(JOBS))}
            words = "\n".join(self.operator.log.read_text().splitlines()[-40:])
            pods = [
                (
                    pod["metadata"]["name"],
                    pod["metadata"]["uid"],
                    pod["metadata"].get("deletionTimestamp"),
                    pod["status"],
                )
                for pod in self.api.list(self.path("pods"))
            ]
            raise AssertionError(f"{error}\n{json.dumps(jobs, indent=1)}\n{pods}\n{words}") from None

    def until_phase(self, job: str, phase: str) -> JsonObject:
        """Wait for a job's phase; return its status."""
        self.until(lambda: self.status(job).get("phase") == phase, f"{job} is {phase}")
        return self.status(job)

    def until_running(self, job: str, generation: int) -> JsonObject:
        """Wait until a generation trains; return the status."""

        def running() -> bool:
            status = self.status(job)
            return status.get("phase") == "Running" and status.get("generation") == generation

        self.until(running, f"{job} is Running in generation {generation}")
        return self.status(job)

    # --- secrets ----------------------------------------------------------------------------------

    def _assert_no_secret_shows(self) -> None:
        secrets = self.api.list(self.path("secrets"))
        encoded = [secret["data"]["token"] for secret in secrets if "token" in secret.get("data", {})]
        tokens = encoded + [base64.b64decode(text).decode() for text in encoded] + self.kubelet.tokens
        written = [self.operator.log.read_text()]
        written += [json.dumps(self.api.list(self.path(kind))) for kind in (JOBS, "events", "pods", "services")]
        for token in tokens:
            for text in written:
                assert token not in text, f"a token shows in {text[:200]}..."


@pytest.fixture
def world(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[World]:
    """A world whose operator is up."""
    made = World(control_plane, namespace, tmp_path)
    made.operator.start()
    yield made
    made.close()
