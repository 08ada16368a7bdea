"""A job at some step, watched by a witness, that has to finish as if nothing had happened."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.e2e.jobs import Job, crew_spec
from tests.e2e.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.reference import References
    from tests.e2e.site import Site

#: After the first checkpoints, and with most of the run to come.
STEP = 50
#: How long a run is to last, in seconds: time to disturb it, time for a lease to run out, a minute of silence. Few
#: values, because what a run of each ends with is computed once on one machine.
SHORT, LONG, LONGER = 12, 40, 80
#: A run's steps are a multiple of this.
_ROUND = 100


@dataclass
class Scene:
    """Where a test sets a job up and disturbs it."""

    site: Site
    namespace: str
    references: References
    #: Steps a second that this machine's cluster makes.
    pace: float

    def steps(self, seconds: float) -> int:
        """Return the steps of a run that lasts this long."""
        return max(2, round(seconds * self.pace / _ROUND)) * _ROUND

    @contextmanager
    def at_step(self, step: int = STEP, lasting: float = SHORT, **fields: Any) -> Iterator[Job]:
        """Give a job that has come to `step`; afterwards it must finish with the weights of an undisturbed run.

        Args:
            step: Where the test begins.
            lasting: Seconds that the run would take by itself.
            fields: What differs from `crew_spec`.
        """
        job = self.apply(lasting, **fields)
        with Witness(job) as witness:
            job.until_step(step)
            yield job
            job.until_phase("Succeeded")
        witness.verdict()
        self.ends_as_undisturbed(job, lasting)

    def apply(self, lasting: float = SHORT, **fields: Any) -> Job:
        """`kubectl apply` a job."""
        return Job.apply(self.site, self.namespace, crew_spec(self.steps(lasting), **fields))

    def ends_as_undisturbed(self, job: Job, lasting: float = SHORT) -> None:
        """Compare the final weights with those of a run on one machine."""
        assert job.weights() == self.references.of_spec(crew_spec(self.steps(lasting)))


def measure_pace(site: Site, namespace: str) -> float:
    """Return the steps a second that a crew makes here, undisturbed."""
    status = Job.apply(site, namespace, crew_spec(400), "pace").until_phase("Succeeded")
    samples = float(status["progress"]["samplesPerSecond"])
    return samples / int(crew_spec()["trainer"]["globalBatchSize"])


def counted(job: Job, failures: int, preemptions: int) -> None:
    """Fail unless the faults were counted so, and what was last is told in words."""
    status = job.status
    for kind, count in (("failures", failures), ("preemptions", preemptions)):
        assert status[kind]["count"] == count, f"{kind}: {status[kind]}\n{job.diagnosis()}"
        assert bool(status[kind].get("last")) == bool(count), job.diagnosis()
