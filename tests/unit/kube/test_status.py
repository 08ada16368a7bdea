"""The status write says what changed, and only that."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rowlock.api.v1alpha1 import BudgetStatus, JobStatus, WorkersStatus
from rowlock_operator.kube.status import patch_body, status_patch


def dump(status: JobStatus) -> dict[str, Any]:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386, as the API server applies it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def test_an_equal_status_is_not_written() -> None:
    status = JobStatus(phase="Running", generation=3)
    assert status_patch(dump(status), status) == {}


def test_only_the_difference_is_written() -> None:
    held = JobStatus(phase="Running", generation=3)
    wanted = held.model_copy(update={"generation": 4, "failures": BudgetStatus(count=1)})
    assert status_patch(dump(held), wanted) == {"generation": 4, "failures": {"count": 1}}


def test_what_is_no_more_is_taken_away() -> None:
    held = JobStatus(not_before="2026-01-01T00:00:00Z")
    assert status_patch(dump(held), JobStatus()) == {"notBefore": None}


def test_the_write_names_the_version_it_was_decided_on() -> None:
    body = patch_body({"metadata": {"resourceVersion": "41"}}, {"generation": 2})
    assert body["metadata"]["resourceVersion"] == "41"


statuses = st.builds(
    JobStatus,
    generation=st.integers(0, 3),
    phase=st.sampled_from(["Pending", "Running", "Failed"]),
    not_before=st.none() | st.just("2026-01-01T00:00:00Z"),
    resumed_from_step=st.none() | st.integers(0, 2),
    workers=st.builds(WorkersStatus, wanted=st.integers(0, 2), ready=st.integers(0, 2)),
)


@given(statuses, statuses)
def test_applying_the_patch_gives_the_wanted_status(held: JobStatus, wanted: JobStatus) -> None:
    assert merged(dump(held), status_patch(dump(held), wanted)) == dump(wanted)
