"""Claim, service, Secret and NetworkPolicy of a job."""

from __future__ import annotations

import pytest

from rowlock_operator.resources.claim import build_claim
from rowlock_operator.resources.launcher import PodSettings
from rowlock_operator.resources.network_policy import build_network_policy
from rowlock_operator.resources.pod import build_pod
from rowlock_operator.resources.secret import build_secret, token_in
from rowlock_operator.resources.service import build_service
from tests.unit.resources.jobs import job


def test_a_retained_claim_has_no_owner_and_so_outlives_the_job() -> None:
    claim = build_claim(job())
    assert claim["metadata"]["name"] == "digits-checkpoints"
    assert "ownerReferences" not in claim["metadata"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "10Gi"
    assert "storageClassName" not in claim["spec"]


def test_retention_delete_hands_the_claim_to_the_garbage_collector() -> None:
    claim = build_claim(job(checkpoint={"retention": "Delete", "storage": {"storageClassName": "fast", "size": 1024}}))
    assert claim["metadata"]["ownerReferences"][0]["uid"] == "uid-1"
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["spec"]["resources"]["requests"]["storage"] == "1024"


def test_the_service_names_workers_before_they_are_ready() -> None:
    spec = build_service(job())["spec"]
    assert spec["clusterIP"] == "None"
    assert spec["publishNotReadyAddresses"] is True
    assert spec["selector"] == {"rowlock.dev/job": "digits"}


def test_the_policy_lets_a_jobs_own_pods_in_and_nobody_else() -> None:
    policy = build_network_policy(job())
    crew = {"podSelector": {"matchLabels": {"rowlock.dev/job": "digits"}}}
    assert policy["spec"] == {**crew, "policyTypes": ["Ingress"], "ingress": [{"from": [crew]}]}
    (owner,) = policy["metadata"]["ownerReferences"]
    assert (policy["metadata"]["name"], owner["uid"], owner["controller"]) == ("digits", "uid-1", True)


def test_no_template_puts_a_pod_into_another_jobs_crew() -> None:
    disguised = job(template={"metadata": {"labels": {"tier": "gold"}}})
    disguised.spec.template.metadata.labels["rowlock.dev/job"] = "other"
    pod = build_pod(disguised, 0, PodSettings("http://op:8480"))
    assert pod["metadata"]["labels"]["rowlock.dev/job"] == "digits"
    assert pod["metadata"]["labels"]["tier"] == "gold"


def test_a_token_is_read_back_from_its_secret() -> None:
    secret = build_secret(job(), "t0ken")
    assert secret["immutable"] is True
    assert "t0ken" not in str(secret)
    assert token_in(secret) == "t0ken"


@pytest.mark.parametrize("data", [None, {}, {"token": "%%%"}, {"token": "/w=="}, {"token": ""}, {"token": 7}])
def test_a_secret_without_a_readable_token_holds_none(data: object) -> None:
    assert token_in({"data": data}) is None
