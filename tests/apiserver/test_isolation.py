"""The NetworkPolicy of a job on a real API server, with the rights that isolating jobs needs and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.operator_world import World, job_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.control_plane import ControlPlane
    from tests.support.kube_api import JsonObject


@pytest.fixture
def isolating(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[World]:
    """A world whose operator is to isolate jobs."""
    made = World(control_plane, namespace, tmp_path, isolates=True)
    made.operator.start()
    yield made
    made.close()


def path(world: World, name: str = "") -> str:
    return f"/apis/networking.k8s.io/v1/namespaces/{world.namespace}/networkpolicies" + (f"/{name}" if name else "")


def policy(world: World, name: str) -> JsonObject | None:
    answer = world.api.get(path(world, name))
    return None if answer.status == 404 else answer.ok()


def test_a_job_has_its_policy_and_takes_it_along(isolating: World) -> None:
    job = isolating.apply(job_manifest("apart"))
    isolating.until_running("apart", generation=1)

    found = policy(isolating, "apart")
    assert found is not None
    (owner,) = found["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["blockOwnerDeletion"]) == (job["metadata"]["uid"], True)
    assert found["spec"]["podSelector"] == {"matchLabels": {"rowlock.dev/job": "apart"}}
    assert "forbidden" not in isolating.operator.log.read_text().lower()

    isolating.delete("apart")
    isolating.until(lambda: policy(isolating, "apart") is None, "the policy is collected")


def test_a_policy_that_was_deleted_comes_back_and_training_goes_on(isolating: World) -> None:
    isolating.apply(job_manifest("apart"))
    isolating.until_running("apart", generation=1)

    isolating.api.delete(path(isolating, "apart")).ok()

    isolating.until(lambda: policy(isolating, "apart") is not None, "the policy is back")
    assert isolating.status("apart")["generation"] == 1


def test_without_its_policy_a_job_gets_no_pods_and_says_why(isolating: World) -> None:
    """Somebody else's object has the name that the policy needs."""
    body = {"metadata": {"name": "taken"}, "spec": {"podSelector": {}}}
    isolating.api.create(path(isolating), body).ok()
    isolating.apply(job_manifest("taken"))

    isolating.until(
        lambda: isolating.condition("taken", "Degraded").get("reason") == "CreateNetworkPolicyRefused",
        "the clash is told",
    )
    assert "networkpolicies 'taken'" in isolating.condition("taken", "Degraded")["message"]
    assert isolating.api.list(isolating.path("pods")) == []

    isolating.api.delete(path(isolating, "taken")).ok()
    isolating.until_running("taken", generation=1)


def test_without_the_right_to_make_policies_no_pod_is_made_either(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    world = World(control_plane, namespace, tmp_path)
    world.operator.add_flags("--isolate-jobs")
    world.operator.start()
    try:
        world.apply(job_manifest("apart"))
        world.until(
            lambda: world.condition("apart", "Degraded").get("reason") == "CreateNetworkPolicyRefused",
            "the missing right is told",
        )
        assert "networkpolicies" in world.condition("apart", "Degraded")["message"]
        assert world.api.list(world.path("pods")) == []
    finally:
        world.close()
