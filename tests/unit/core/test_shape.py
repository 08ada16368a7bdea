"""The fingerprint of a spec: a new release must not change it, a person's change must."""

from __future__ import annotations

from rowlock.api.v1alpha1 import DEFAULT_IMAGE, JobSpec
from rowlock_operator.core.shape import spec_hash

NEXT_IMAGE = "ghcr.io/rowlock/trainer:next"
#: The API server writes the default image into a job when it is created, and there it stays.
STORED = {"workers": 2, "command": ["train"], "image": DEFAULT_IMAGE}


class NextJobSpec(JobSpec):
    """The spec as the next release has it, whose trainer image is another one."""

    image: str = NEXT_IMAGE


def test_the_next_release_with_its_own_default_image_leaves_a_stored_jobs_fingerprint_as_it_was() -> None:
    assert spec_hash(NextJobSpec.model_validate(STORED)) == spec_hash(JobSpec.model_validate(STORED))


def test_moving_a_job_to_the_next_releases_image_changes_its_fingerprint() -> None:
    moved = NextJobSpec.model_validate({**STORED, "image": NEXT_IMAGE})
    assert spec_hash(moved) != spec_hash(NextJobSpec.model_validate(STORED))
