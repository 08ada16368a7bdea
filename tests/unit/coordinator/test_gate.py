"""Who is let in, and how often the API server is asked for it."""

from __future__ import annotations

import asyncio

import pytest
from websockets.exceptions import InvalidStatus

from rowlock_operator.coordinator.gate import FAILURES_AT_ONCE, TOKEN_KEPT, Gate, TooManyFailuresError
from tests.unit.coordinator.launchers import JOB, TOKEN, Clock, coordinator_at_work


class Lookups:
    """Answers for a Secret, and counts."""

    def __init__(self, token: str | None = TOKEN) -> None:
        self.token = token
        self.count = 0

    async def __call__(self, namespace: str, name: str) -> str | None:
        self.count += 1
        await asyncio.sleep(0)
        return self.token if (namespace, name) == JOB else None


async def status_of(dialling) -> int:
    with pytest.raises(InvalidStatus) as caught:
        async with dialling:
            pass
    return caught.value.response.status_code


def test_an_unknown_job_and_a_wrong_token_get_the_same_answer():
    async def scenario():
        async with coordinator_at_work() as place:
            answers = []
            for dialling in (place.dial(token="wrong"), place.dial(job=("default", "none")), place.dial(token="")):  # noqa: S106
                with pytest.raises(InvalidStatus) as caught:
                    async with dialling:
                        pass
                answers.append((caught.value.response.status_code, caught.value.response.body))
            assert answers == [(401, b"unknown job or wrong token")] * 3

    asyncio.run(scenario())


def test_a_name_that_no_job_can_have_never_reaches_the_lookup():
    async def scenario():
        async with coordinator_at_work() as place:
            assert await status_of(place.dial(job=("default", "..%2fsecrets"))) == 401
            assert place.lookups == []

    asyncio.run(scenario())


def test_a_peer_that_guesses_runs_out_of_lookups_and_earns_them_back():
    async def scenario():
        clock, lookups = Clock(), Lookups()
        gate = Gate(lookups, clock)
        for _ in range(FAILURES_AT_ONCE):
            assert not await gate.admits(*JOB, "wrong", "10.0.0.9")
        with pytest.raises(TooManyFailuresError):
            await gate.admits(*JOB, "wrong", "10.0.0.9")
        assert lookups.count == FAILURES_AT_ONCE
        assert await gate.admits(*JOB, TOKEN, "10.0.0.9"), "a token known to be right needs no lookup"
        assert await gate.admits(*JOB, TOKEN, "10.0.0.8"), "another peer is not concerned"
        clock.advance(1)
        assert not await gate.admits(*JOB, "wrong", "10.0.0.9")

    asyncio.run(scenario())


def test_too_many_failures_are_answered_429():
    async def scenario():
        async with coordinator_at_work() as place:
            for _ in range(FAILURES_AT_ONCE):
                assert await status_of(place.dial(token="wrong")) == 401  # noqa: S106
            assert await status_of(place.dial(token="wrong")) == 429  # noqa: S106

    asyncio.run(scenario())


def test_a_crew_that_comes_back_at_once_costs_one_lookup():
    async def scenario():
        lookups = Lookups()
        gate = Gate(lookups, Clock())
        admitted = await asyncio.gather(*(gate.admits(*JOB, TOKEN, f"10.0.0.{n}") for n in range(100)))
        assert all(admitted)
        assert lookups.count == 1

    asyncio.run(scenario())


def test_a_token_made_anew_counts_at_once_and_the_old_one_not_for_long():
    async def scenario():
        clock, lookups = Clock(), Lookups()
        gate = Gate(lookups, clock)
        assert await gate.admits(*JOB, TOKEN, "10.0.0.1")
        lookups.token = "newer"  # noqa: S105
        assert await gate.admits(*JOB, "newer", "10.0.0.1")
        assert not await gate.admits(*JOB, TOKEN, "10.0.0.1")
        lookups.token = None
        clock.advance(TOKEN_KEPT.total_seconds())
        assert not await gate.admits(*JOB, "newer", "10.0.0.1")

    asyncio.run(scenario())


def test_a_forgotten_job_is_looked_up_again():
    async def scenario():
        lookups = Lookups()
        gate = Gate(lookups, Clock())
        assert await gate.admits(*JOB, TOKEN, "10.0.0.1")
        gate.forget(*JOB)
        lookups.token = None
        assert not await gate.admits(*JOB, TOKEN, "10.0.0.1")

    asyncio.run(scenario())


def test_a_token_that_is_no_text_of_ours_is_wrong_and_nothing_more():
    async def scenario():
        gate = Gate(Lookups(), Clock())
        assert not await gate.admits(*JOB, "\udcff" * 10_000, "10.0.0.1")

    asyncio.run(scenario())
