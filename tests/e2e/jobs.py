"""Jobs on the cluster, as a person with kubectl sees them, and their checkpoints, as only the machine does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from rowlock_trainer.checkpoint import list_checkpoints, weights_digest
from tests.e2e.site import Site
from tests.support.kube_api import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rowlock.protocol import CheckpointNote
    from tests.support.kube_api import JsonObject

#: Importing torch in every pod of a crew at once, on two cores, is most of what a test waits for.
DEADLINE = 240.0
CLAIMS_OF = "{job}-checkpoints"


def crew_spec(steps: int = 240, **fields: Any) -> dict[str, Any]:
    """A crew of two that learns text: small enough for a test, its steps slow enough to be disturbed."""
    gpt = {"layers": 2, "heads": 4, "width": 64, "context": 64, "dropout": 0.1}
    trainer = {"model": {"gpt": gpt}, "data": "python-text", "globalBatchSize": 16, "steps": steps}
    spec: dict[str, Any] = {
        "workers": 2,
        "trainer": trainer,
        "checkpoint": {"everySteps": 20, "storage": {"size": "64Mi", "accessMode": "ReadWriteMany"}},
        "template": {"spec": {"containers": [{"name": "trainer", "resources": RESOURCES}]}},
    }
    return _merged(spec, fields)


#: What one small rank needs: torch itself maps about a gigabyte.
RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        result[key] = (
            _merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        )
    return result


def newest(checkpoints: Path) -> CheckpointNote:
    """Return the newest checkpoint in a folder of them."""
    return max(list_checkpoints(checkpoints), key=lambda note: note.step)


class Job:
    """One job on the cluster."""

    def __init__(self, site: Site, namespace: str, name: str) -> None:
        self.site = site
        self.api = site.api
        self.namespace = namespace
        self.name = name
        self.path = f"/apis/rowlock.dev/v1alpha1/namespaces/{namespace}/distributedtrainingjobs/{name}"

    @classmethod
    def apply(cls, site: Site, namespace: str, spec: dict[str, Any], name: str = "crew") -> Job:
        """`kubectl apply` a job."""
        manifest = {
            "apiVersion": "rowlock.dev/v1alpha1",
            "kind": "DistributedTrainingJob",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }
        site.cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(manifest))
        return cls(site, namespace, name)

    # --- what is there --------------------------------------------------------------------------------

    def body(self) -> JsonObject | None:
        """The job, None when there is none."""
        answer = self.api.get(self.path)
        return None if answer.status == 404 else answer.ok()

    @property
    def status(self) -> JsonObject:
        """Its status, empty before the operator has seen it."""
        return dict((self.body() or {}).get("status") or {})

    @property
    def step(self) -> int:
        """Steps finished, as status says."""
        return int((self.status.get("progress") or {}).get("step", 0))

    def condition(self, kind: str) -> JsonObject:
        """One of its conditions."""
        found = [one for one in self.status.get("conditions", []) if one["type"] == kind]
        return dict(found[0]) if found else {}

    def pods(self) -> list[JsonObject]:
        """Its pods, by worker."""
        pods = self.api.list(f"/api/v1/namespaces/{self.namespace}/pods", labelSelector=f"rowlock.dev/job={self.name}")
        return sorted(pods, key=lambda pod: int(pod["metadata"]["labels"]["rowlock.dev/worker"]))

    def pod(self, worker: int) -> JsonObject:
        """One worker's pod."""
        return next(pod for pod in self.pods() if pod["metadata"]["labels"]["rowlock.dev/worker"] == str(worker))

    def events(self) -> list[str]:
        """Reasons of the events told of it, oldest first."""
        events = self.api.list(
            f"/api/v1/namespaces/{self.namespace}/events", fieldSelector=f"involvedObject.name={self.name}"
        )
        return [event["reason"] for event in sorted(events, key=lambda event: event.get("lastTimestamp") or "")]

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints are on this machine."""
        claim = self.body_claim()
        return self.site.cluster.volume(self.namespace, claim) / self.name

    def body_claim(self) -> str:
        """The name of its claim."""
        spec = (self.body() or {}).get("spec", {})
        named = ((spec.get("checkpoint") or {}).get("storage") or {}).get("claimName")
        return named or CLAIMS_OF.format(job=self.name)

    def newest_checkpoint(self) -> int:
        """Step of the newest checkpoint on the volume, whatever status knows of it."""
        return newest(self.checkpoints).step

    def weights(self) -> str:
        """SHA-256 of all weights in the newest checkpoint."""
        return weights_digest(self.checkpoints, newest(self.checkpoints).name)

    # --- what is waited for ---------------------------------------------------------------------------

    def until(self, holds: Callable[[JsonObject], bool], what: str, seconds: float = DEADLINE) -> JsonObject:
        """Wait until the status is as wanted; return it. Fails at once when the job has failed instead."""
        seen: list[JsonObject] = [{}]

        def look() -> bool:
            try:
                seen[0] = self.status
            except OSError:
                return False  # the API server is away: some tests see to that
            if holds(seen[0]):
                return True
            if seen[0].get("phase") == "Failed":
                raise AssertionError(f"the job failed; waited for: {what}\n{self.diagnosis()}")
            return False

        self.wait(look, what, seconds)
        return seen[0]

    def wait(self, holds: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
        """Wait until anything about it is as wanted; a wait in vain says all that is known of the job."""
        try:
            wait_until(holds, seconds, what, interval_seconds=0.1)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.diagnosis()}") from None

    def until_phase(self, phase: str, seconds: float = DEADLINE) -> JsonObject:
        """Wait for a phase."""
        return self.until(lambda status: status.get("phase") == phase, f"{self.name} is {phase}", seconds)

    def until_step(self, step: int, seconds: float = DEADLINE) -> JsonObject:
        """Wait until training has come this far."""
        return self.until(
            lambda status: (status.get("progress") or {}).get("step", 0) >= step, f"step {step} is reached", seconds
        )

    def trains_on(self) -> None:
        """Wait for a checkpoint that is newer than the newest of now."""
        self.until_checkpoint(self.newest_checkpoint() + 1)

    def until_checkpoint(self, step: int = 1) -> JsonObject:
        """Wait for a verified checkpoint of this step or a later one."""
        return self.until(
            lambda status: (status.get("lastCheckpoint") or {}).get("step", 0) >= step, f"a checkpoint from step {step}"
        )

    def diagnosis(self) -> str:
        """All that helps to understand a failed wait."""
        try:
            pods = [
                (
                    pod["metadata"]["name"],
                    pod["spec"].get("nodeName"),
                    pod["metadata"].get("deletionTimestamp"),
                    pod["status"],
                )
                for pod in self.pods()
            ]
            said = [self._logs(pod["metadata"]["name"]) for pod in self.pods()]
            parts = [json.dumps(self.status, indent=1), json.dumps(pods, indent=1), *said, self.site.logs()]
        except (OSError, AssertionError) as error:
            return f"(nothing more can be learned: {error})"
        return "\n".join(parts)

    def _logs(self, pod: str) -> str:
        try:
            return self.site.cluster.kubectl("logs", "-n", self.namespace, pod, "--tail=30")
        except RuntimeError as error:
            return str(error)
