"""A claim that the user named is asked for by name, as often as something waits for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from rowlock_operator.kube.claims import ASK_BOUND_SECONDS, ASK_SECONDS, Claims
from rowlock_operator.kube.client import ApiError
from rowlock_operator.kube.observed import Cluster
from rowlock_operator.kube.resources import CLAIMS, Resource
from tests.unit.resources.jobs import job

NAMED = job(checkpoint={"storage": {"claimName": "mine"}})


class Server:
    """An API server with the claim, in a phase, or without."""

    def __init__(self, phase: str | None) -> None:
        self._phase = phase

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        assert (resource, namespace, name) == (CLAIMS, "lab", "mine")
        if self._phase is None:
            raise ApiError(404, "NotFound", "no such claim")
        return {"metadata": {"namespace": namespace, "name": name}, "status": {"phase": self._phase}}


def asked_again_in(server: Any, phase: Any) -> float | None:
    status = NAMED.status.model_copy(update={"phase": phase})
    _, seconds = asyncio.run(Claims(server, Cluster()).of(replace(NAMED, status=status)))
    return seconds


@pytest.mark.parametrize(
    ("phase", "seconds"), [(None, ASK_SECONDS), ("Pending", ASK_SECONDS), ("Bound", ASK_BOUND_SECONDS)]
)
def test_it_is_asked_for_again_soon_until_it_is_bound(phase: str | None, seconds: float) -> None:
    assert asked_again_in(Server(phase), "Pending") == seconds


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", "Suspended"])
def test_nobody_asks_for_the_claim_of_a_job_that_does_not_want_it(phase: str) -> None:
    assert asked_again_in(Server(None), phase) is None
