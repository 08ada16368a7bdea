"""A job at some step, watched by a witness, that has to finish as if nothing had happened."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.e2e.jobs import Job, crew_spec
from tests.e2e.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.reference import References
    from tests.e2e.site import Site

#: After the first checkpoints, and with most of the run to come.
STEP = 50
#: Steps of a run that outlives a lease, and of one that outlives a minute of silence, at some 35 steps a second.
LONG, LONGER = 1200, 3200


class Scene:
    """Where a test sets a job up and disturbs it."""

    def __init__(self, site: Site, namespace: str, references: References) -> None:
        self.site = site
        self.namespace = namespace
        self._references = references

    @contextmanager
    def at_step(self, step: int = STEP, **fields: Any) -> Iterator[Job]:
        """Give a job that has come to `step`; afterwards it must finish with the weights of an undisturbed run.

        Args:
            step: Where the test begins.
            fields: What differs from `crew_spec`.
        """
        job = Job.apply(self.site, self.namespace, crew_spec(**fields))
        with Witness(job) as witness:
            job.until_step(step)
            yield job
            job.until_phase("Succeeded")
        witness.verdict()
        self.ends_as_undisturbed(job, **fields)

    def ends_as_undisturbed(self, job: Job, **fields: Any) -> None:
        """Compare the final weights. What may change them is the trainer's part of the spec."""
        assert job.weights() == self._references.of_spec(crew_spec(trainer=fields.get("trainer", {})))


def counted(job: Job, failures: int, preemptions: int) -> None:
    """Fail unless the faults were counted so, and what was last is told in words."""
    status = job.status
    for kind, count in (("failures", failures), ("preemptions", preemptions)):
        assert status[kind]["count"] == count, f"{kind}: {status[kind]}\n{job.diagnosis()}"
        assert bool(status[kind].get("last")) == bool(count), job.diagnosis()
