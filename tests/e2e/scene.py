"""A job at some step, watched by a witness, that has to finish as if nothing had happened."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.e2e.jobs import Job, crew_spec
from tests.e2e.witness import PATIENCE, Witness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.reference import Reference
    from tests.e2e.site import Site
    from tests.support.kube_api import JsonObject

#: After the first checkpoints, and with most of the run to come.
STEP = 50
#: How long a run that nothing disturbs lasts, in seconds.
SHORT = 12
#: A run's steps are a multiple of this.
ROUND = 100
#: Steps of a run that goes on until it is told where to end: days, however fast the machine is. One that lasts just
#: long enough to be disturbed would at times be over before: paces differ several times over from minute to minute.
ENDLESS = 10_000_000


@dataclass
class Scene:
    """Where a test sets a job up and disturbs it."""

    site: Site
    namespace: str
    reference: Reference
    #: Steps a second that this machine's cluster makes.
    pace: float

    def steps(self, seconds: float = SHORT) -> int:
        """Return the steps of a run that lasts about this long."""
        return max(2, round(seconds * self.pace / ROUND)) * ROUND

    @contextmanager
    def at_step(
        self, *, failures: int = 0, preemptions: int = 0, patience: float = PATIENCE, **fields: Any
    ) -> Iterator[Job]:
        """Give a job that has come to `STEP` and trains on until the test is through, however long that takes.

        Then it has to recover, to count what befell it, and to finish with the weights of an undisturbed run.

        Args:
            failures: Failures that it is to have counted when it trains again.
            preemptions: Preemptions that it is to have counted by then.
            patience: How long status may lag behind the facts, in seconds.
            fields: What differs from `crew_spec`.
        """
        job = self.apply(endless=True, **fields)
        with Witness(job, patience) as witness:
            job.until_step(STEP)
            yield job
            job.until(lambda status: recovered(status) == (failures, preemptions), "it has counted this and trains")
            job.trains_on()
            self.end(job)
            job.until_phase("Succeeded")
        witness.verdict()
        counted(job, failures, preemptions)
        self.ends_as_undisturbed(job)

    def apply(self, *, endless: bool = False, **fields: Any) -> Job:
        """`kubectl apply` a job."""
        return Job.apply(self.site, self.namespace, crew_spec(ENDLESS if endless else self.steps(), **fields))

    def end(self, job: Job) -> None:
        """Tell an endless run to end a little further on. What it is told can be changed only while it is suspended."""
        patch(job, {"suspend": True})
        job.until_phase("Suspended")
        patch(job, {"suspend": False, "trainer": {"steps": (job.newest_checkpoint() // ROUND + 1) * ROUND}})

    def ends_as_undisturbed(self, job: Job) -> None:
        """Compare the final weights with those of a run on one machine."""
        assert job.weights() == self.reference.weights_at(job.newest_checkpoint())


def patch(job: Job, spec: dict[str, Any]) -> None:
    """`kubectl patch` a job's spec."""
    words = ("--type=merge", "-p", json.dumps({"spec": spec}))
    job.site.cluster.kubectl("patch", "-n", job.namespace, "dtj", job.name, *words)


def measure_pace(site: Site, namespace: str) -> float:
    """Return the steps a second that a crew makes here, undisturbed."""
    status = Job.apply(site, namespace, crew_spec(400), "pace").until_phase("Succeeded")
    samples = float(status["progress"]["samplesPerSecond"])
    return samples / int(crew_spec()["trainer"]["globalBatchSize"])


def recovered(status: JsonObject) -> tuple[int, int] | None:
    """The failures and preemptions counted by a crew that trains; None while it does not, or a fault is unsettled."""
    if status.get("phase") != "Running" or status.get("unsettled"):
        return None
    return status["failures"]["count"], status["preemptions"]["count"]


def counted(job: Job, failures: int, preemptions: int) -> None:
    """Fail unless the faults were counted so, and what was last is told in words."""
    status = job.status
    for kind, count in (("failures", failures), ("preemptions", preemptions)):
        assert status[kind]["count"] == count, f"{kind}: {status[kind]}\n{job.diagnosis()}"
        assert bool(status[kind].get("last")) == bool(count), job.diagnosis()
