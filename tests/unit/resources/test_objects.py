"""Claim, service and Secret of a job."""

from __future__ import annotations

import pytest

from rowlock_operator.resources.claim import build_claim
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


def test_a_token_is_read_back_from_its_secret() -> None:
    secret = build_secret(job(), "t0ken")
    assert secret["immutable"] is True
    assert "t0ken" not in str(secret)
    assert token_in(secret) == "t0ken"


@pytest.mark.parametrize("data", [None, {}, {"token": "%%%"}, {"token": "/w=="}, {"token": ""}, {"token": 7}])
def test_a_secret_without_a_readable_token_holds_none(data: object) -> None:
    assert token_in({"data": data}) is None
