"""Who leads: one candidate's rules, and several candidates against a server on a network that does its worst.

The worlds below run the real election on a clock that is made up, so a minute of them takes milliseconds.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowlock_operator.kube.client import ApiError
from rowlock_operator.kube.election import Candidate, Election, Record, Terms
from rowlock_operator.kube.resources import LEASES, Resource
from tests.support import virtual_time

TERMS = Terms()
OTHERS = Record("other", 15.0, "1")


def test_the_terms_are_client_gos() -> None:
    assert (TERMS.lease, TERMS.renew, TERMS.retry) == (15.0, 10.0, 2.0)


@pytest.mark.parametrize(
    ("seen", "now", "may"),
    [
        ([], 0.0, True),  # there is no lease
        ([(0.0, Record("", 1.0, "1"))], 0.0, True),  # it was given back
        ([(0.0, Record("me", 15.0, "1"))], 0.0, True),
        ([(0.0, OTHERS)], 0.0, False),
        ([(0.0, OTHERS)], 14.9, False),
        ([(0.0, OTHERS)], 15.0, True),
        ([(0.0, OTHERS), (14.0, OTHERS)], 15.0, True),  # seen again, not renewed
        ([(0.0, OTHERS), (14.0, Record("other", 15.0, "2"))], 15.0, False),  # renewed
        ([(0.0, Record("other", 60.0, "1"))], 15.0, False),  # the holder's own terms are longer
        ([(0.0, Record("other", 1.0, "1"))], 14.9, False),  # or ours are
        ([(0.0, OTHERS), (3.0, None)], 3.0, True),  # it was deleted
    ],
)
def test_a_lease_may_be_claimed_when_nobody_was_seen_to_renew_it(
    seen: list[tuple[float, Record | None]], now: float, may: bool
) -> None:
    candidate = Candidate("me", TERMS)
    for at, record in seen:
        candidate.observe(record, at)
    assert candidate.may_claim(now) is may


def test_a_holder_leads_from_when_it_asked_and_not_from_when_it_was_answered() -> None:
    candidate = Candidate("me", TERMS)
    assert not candidate.leads(0.0)
    candidate.holds(Record("me", 15.0, "1"), sent_at=100.0)
    assert candidate.leads(109.9)
    assert not candidate.leads(110.0)


def test_a_leader_that_sees_another_holder_is_deposed_and_a_mere_candidate_is_not() -> None:
    candidate = Candidate("me", TERMS)
    candidate.observe(OTHERS, 0.0)
    assert not candidate.deposed
    candidate.holds(Record("me", 15.0, "2"), 20.0)
    assert not candidate.deposed
    candidate.observe(Record("other", 15.0, "3"), 21.0)
    assert candidate.deposed


# --- several of them -------------------------------------------------------------------------------------


class Server:
    """The part of an API server that the election leans on: one Lease, its version, and conflicts."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        #: Each spec ever written.
        self.specs: list[dict[str, Any]] = []

    def get(self) -> dict[str, Any]:
        if self.lease is None:
            raise ApiError(404, "NotFound", "no lease")
        return self.lease

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.lease is not None:
            raise ApiError(409, "AlreadyExists", "there is one")
        return self._keep(body)

    def replace(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["metadata"]["resourceVersion"] != self.get()["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "it was changed")
        return self._keep(body)

    def _keep(self, body: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        self.lease = body | {"metadata": body["metadata"] | {"resourceVersion": str(self.version)}}
        self.specs.append(self.lease["spec"])
        return self.lease


class Network:
    """One candidate's way to the server: slow there, slow back, and sometimes with no answer at all."""

    def __init__(self, server: Server, chance: random.Random) -> None:
        self._server = server
        self._chance = chance
        #: While it is bad, half of all requests are slow or lost.
        self.bad = True

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        assert (resource, namespace, name) == (LEASES, "system", "rowlock-operator")
        return await self._ask(self._server.get)

    async def create(self, resource: Resource, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        assert (resource, namespace) == (LEASES, "system")
        return await self._ask(lambda: self._server.create(body))

    async def replace(self, resource: Resource, namespace: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        assert (resource, namespace, name) == (LEASES, "system", "rowlock-operator")
        return await self._ask(lambda: self._server.replace(body))

    async def _ask(self, what: Any) -> dict[str, Any]:
        await self._pass()
        answer: dict[str, Any] = what()
        await self._pass()
        return answer

    async def _pass(self) -> None:
        fate = self._chance.random() if self.bad else 1.0
        if fate < 0.2:
            await asyncio.sleep(self._chance.uniform(0.0, 5.0))
            raise ApiError(0, "Unreachable", "no answer")
        # Much longer than a request may take, as for a process that was stopped in the middle of one.
        await asyncio.sleep(self._chance.uniform(0.0, 20.0) if fate < 0.4 else 0.01)


class EndedError(Exception):
    """The process ended."""


@dataclass
class Process:
    """A candidate's process: its clock, and when it believed to lead, in the world's time."""

    clock_offset: float
    clock_rate: float
    started: float
    network: Network
    leads_from: float | None = None
    leads_until: float = 0.0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _timer: asyncio.TimerHandle | None = None

    def clock(self) -> float:
        return self.clock_offset + self.clock_rate * asyncio.get_running_loop().time()

    # What the kernel does for a real one:

    def set(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if seconds <= 0:
            self.end("too late")
        if self._timer is not None:
            self._timer.cancel()
        if self.leads_from is None:
            self.leads_from = loop.time()
        self.leads_until = loop.time() + seconds / self.clock_rate
        self._timer = loop.call_at(self.leads_until, self.ended.set)

    def clear(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.leads_until = min(self.leads_until, asyncio.get_running_loop().time())

    def end(self, why: str) -> None:
        self.leads_until = min(self.leads_until, asyncio.get_running_loop().time())
        self.ended.set()
        raise EndedError(why)

    def election(self, identity: str) -> Election:
        return Election(
            self.network,
            namespace="system",
            name="rowlock-operator",
            identity=identity,
            limit=self,
            terms=TERMS,
            clock=self.clock,
        )


class World:
    """Candidates, each restarted whenever its process ends, as a kubelet does."""

    def __init__(self, seed: int, clocks: list[tuple[float, float]]) -> None:
        self.chance = random.Random(seed)
        self.server = Server()
        self.processes: list[Process] = []
        self.calm = False
        self._clocks = clocks

    async def run(self, bad_seconds: float, calm_seconds: float) -> None:
        tasks = [asyncio.create_task(self._candidate(number)) for number in range(len(self._clocks))]
        await asyncio.sleep(bad_seconds)
        self.calm = True
        for process in self.processes:
            process.network.bad = False
        await asyncio.sleep(calm_seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _candidate(self, number: int) -> None:
        lives = 0
        while True:
            lives += 1
            network = Network(self.server, self.chance)
            network.bad = not self.calm
            process = Process(*self._clocks[number], asyncio.get_running_loop().time(), network)
            self.processes.append(process)
            await self._live(process, process.election(f"{number}-{lives}"))
            await asyncio.sleep(self.chance.uniform(0.0, 3.0))

    async def _live(self, process: Process, election: Election) -> None:
        running = asyncio.create_task(election.run())
        life = self.chance.choice([5.0, 30.0, 1e6]) if not self.calm else 1e6
        try:
            await asyncio.wait_for(process.ended.wait(), life)
        except TimeoutError:
            if self.chance.random() < 0.5:  # SIGTERM; else the node loses its power, and only the lease tells
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                # By now it does nothing that only a leader may do; telling so may take long.
                process.leads_until = min(process.leads_until, asyncio.get_running_loop().time())
                await election.release()
                return
            process.leads_until = min(process.leads_until, asyncio.get_running_loop().time())
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def reigns(self) -> list[tuple[float, float]]:
        """When each process believed to lead, in order."""
        return sorted(
            (process.leads_from, process.leads_until) for process in self.processes if process.leads_from is not None
        )

    def leading(self, at: float) -> int:
        return sum(start <= at < end for start, end in self.reigns())


clocks = st.lists(
    st.tuples(st.floats(-1e6, 1e6), st.floats(1.0, 1.4)),  # offset in seconds, and rate: 1.5 is what is tolerated
    min_size=2,
    max_size=3,
)


@given(seed=st.integers(0, 2**32), clocks=clocks)
@settings(max_examples=150, deadline=None)
def test_never_two_believe_to_lead_whatever_the_network_and_the_clocks_do(
    seed: int, clocks: list[tuple[float, float]]
) -> None:
    async def scenario() -> World:
        world = World(seed, clocks)
        await world.run(bad_seconds=200.0, calm_seconds=100.0)
        return world

    world = virtual_time.run(scenario())
    reigns = world.reigns()
    for (_, end), (start, _) in itertools.pairwise(reigns):
        assert end <= start, f"two led at {start}"
    # And when the network is well again somebody does, and stays.
    assert [world.leading(at) for at in (270.0, 285.0, 299.0)] == [1, 1, 1]
    assert len({end for start, end in reigns if end > 270.0}) == 1


def test_a_lease_that_is_given_back_is_taken_within_a_retry_and_one_that_is_not_after_its_time() -> None:
    async def scenario(orderly: bool) -> float:
        loop, server = asyncio.get_running_loop(), Server()
        quiet = Network(server, random.Random(0))
        quiet.bad = False
        first, second = (Process(0.0, 1.0, 0.0, quiet) for _ in range(2))
        leader, standby = first.election("first"), second.election("second")
        leading = asyncio.create_task(leader.run())
        await leader.won.wait()
        waiting = asyncio.create_task(standby.run())
        await asyncio.sleep(30.0)
        assert not standby.won.is_set()
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)
        if orderly:
            await leader.release()
        gone_at = loop.time()
        await standby.won.wait()
        waiting.cancel()
        return loop.time() - gone_at

    # A look at the lease comes every 2 to 2.4 s and takes a few hundredths.
    assert virtual_time.run(scenario(orderly=True)) < 2.5
    # One look later than the last renewal it is seen, and one look later than its time it is taken.
    assert 15.0 - 2.5 < virtual_time.run(scenario(orderly=False)) < 15.0 + 2 * 2.5


class Hanging(Network):
    """A way to the server on which one request now and then gets no answer for all of its time."""

    def __init__(self, server: Server, seconds: float) -> None:
        super().__init__(server, random.Random(0))
        self.bad = False
        self._seconds = seconds
        self.asked = 0

    async def _ask(self, what: Any) -> dict[str, Any]:
        self.asked += 1
        if self.asked % 5 == 0:
            await asyncio.sleep(self._seconds)
            raise ApiError(0, "Unreachable", "no answer")
        await asyncio.sleep(1.0)  # a new connection to a busy server
        answer: dict[str, Any] = what()
        return answer


def test_a_renewal_that_gets_no_answer_is_tried_again_while_there_is_time() -> None:
    async def scenario() -> bool:
        # As kube.leadership sets it: half of the time that a holder leads after its last renewal.
        network = Hanging(Server(), TERMS.renew / 2)
        process = Process(0.0, 1.0, 0.0, network)
        running = asyncio.create_task(process.election("only").run())
        await asyncio.sleep(200.0)
        assert network.asked > 50
        running.cancel()
        return process.ended.is_set()

    assert not virtual_time.run(scenario())


def test_the_lease_tells_a_person_who_leads_since_when_and_how_often_that_changed() -> None:
    async def scenario() -> list[dict[str, Any]]:
        server = Server()
        quiet = Network(server, random.Random(0))
        quiet.bad = False
        for name in ("first", "second"):
            election = Process(0.0, 1.0, 0.0, quiet).election(name)
            running = asyncio.create_task(election.run())
            await election.won.wait()
            await asyncio.sleep(5.0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await election.release()
        return server.specs

    specs = virtual_time.run(scenario())
    holders = [spec["holderIdentity"] for spec in specs]
    assert holders == ["first", "first", "first", "", "second", "second", "second", ""]
    assert [spec["leaseTransitions"] for spec in specs] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert [spec["leaseDurationSeconds"] for spec in specs] == [15, 15, 15, 1, 15, 15, 15, 1]
    assert specs[0]["acquireTime"] == specs[2]["acquireTime"] == specs[0]["renewTime"]
    assert specs[2]["renewTime"] > specs[0]["renewTime"]
