"""What the coordinator makes of launchers that come, speak, fall silent, go and come back."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web
from websockets.exceptions import ConnectionClosed, InvalidStatus

from rowlock.protocol import LEASE_SECONDS, MAX_MESSAGE_BYTES, PROTOCOL_VERSION, Hello, Notice, Progress, Report, encode
from rowlock_operator.coordinator import Coordinator
from rowlock_operator.core.model import Launcher
from tests.unit.coordinator.launchers import (
    DEADLINE,
    JOB,
    Clock,
    coordinator_at_work,
    greet,
    next_order,
    order,
)

OTHER = ("default", "other")


async def no_token(namespace: str, name: str) -> str | None:
    return None


def at_step(step: int) -> Progress:
    """Progress whose own time is nonsense, as that of a worker with a wrong clock."""
    return Progress(step, 100, 0.0, 1.0, 1.0, 1.0, time=4e9)


def run(scenario):
    asyncio.run(scenario())


async def closed(line) -> ConnectionClosed:
    """Wait until the coordinator closes the line, and return how."""
    try:
        async with asyncio.timeout(DEADLINE):
            while True:
                await line.recv()
    except ConnectionClosed as end:
        return end


def test_a_launcher_is_known_by_what_it_reports():
    async def scenario():
        async with coordinator_at_work() as place, place.dial(1) as line:
            await greet(line, 1, report=Report(generation=3, phase="running", resumed_from=40))
            await place.until(lambda: place.launchers)
            (launcher,) = place.launchers
            assert (launcher.worker, launcher.pod_uid, launcher.address) == (1, "uid-a", "10.0.0.1")
            assert launcher.connected
            assert launcher.last_seen == place.clock.now
            assert (launcher.report.generation, launcher.report.resumed_from) == (3, 40)

    run(scenario)


def test_a_launcher_that_only_greeted_is_not_taken_for_one_without_ranks():
    async def scenario():
        async with coordinator_at_work() as place, place.dial() as line:
            place.coordinator.publish(*JOB, order())
            await line.send(encode(Hello(PROTOCOL_VERSION, 0, "uid-a", "10.0.0.1")))
            await next_order(line)  # its greeting has been taken
            assert place.launchers == ()
            await line.send(encode(Report(phase="running")))
            await place.until(lambda: place.launchers)

    run(scenario)


def test_a_report_that_says_nothing_new_renews_the_lease_and_tells_nobody():
    async def scenario():
        async with coordinator_at_work() as place, place.dial() as line:
            await greet(line)
            await place.until(lambda: place.launchers)
            told = place.changes
            place.advance_and_expire(10)
            await line.send(encode(Report()))
            await line.send(encode(Report(phase="starting")))
            await place.until(lambda: place.launchers[0].report.phase == "starting")
            assert place.changes == told + 1
            assert place.launchers[0].last_seen == place.clock.now

    run(scenario)


def test_the_current_order_is_sent_on_connection_and_each_newer_one_once():
    async def scenario():
        async with coordinator_at_work() as place:
            place.coordinator.publish(*JOB, order(1))
            async with place.dial() as line:
                await greet(line)
                assert await next_order(line) == order(1)
                place.coordinator.publish(*JOB, order(1))
                place.coordinator.publish(*JOB, order(2))
                assert await next_order(line) == order(2)

    run(scenario)


def test_orders_reach_the_launchers_of_their_job_alone():
    async def scenario():
        async with coordinator_at_work() as place:
            place.tokens[OTHER] = "other-token"
            async with place.dial() as line, place.dial(token="other-token", job=OTHER) as other:  # noqa: S106
                await greet(line)
                await greet(other)
                place.coordinator.publish(*OTHER, order(7))
                place.coordinator.publish(*JOB, order(1))
                assert await next_order(line) == order(1)
                assert await next_order(other) == order(7)

    run(scenario)


def test_a_launcher_that_reads_nothing_holds_nobody_up_and_then_gets_the_newest_order():
    async def scenario():
        # One message may wait unread with the slow one; then its socket fills up.
        async with coordinator_at_work() as place, place.dial(1) as quick, place.dial(0, max_queue=1) as slow:
            await greet(slow, 0)
            await greet(quick, 1)
            await place.until(lambda: len(place.launchers) == 2)
            last = 2000
            for generation in range(1, last + 1):
                place.coordinator.publish(*JOB, order(generation, store="x" * 10_000))
                if generation % 100 == 0:
                    while (await next_order(quick)).generation < generation:
                        pass
            received = [(await next_order(slow)).generation]
            while received[-1] < last:
                received.append((await next_order(slow)).generation)
            assert received == sorted(received)
            assert len(received) < last, "what was overtaken was not kept"

    run(scenario)


def test_a_closed_line_is_told_at_once_and_its_last_report_is_kept():
    async def scenario():
        async with coordinator_at_work() as place:
            async with place.dial() as line:
                await greet(line, report=Report(phase="done"))
                await place.until(lambda: place.launchers)
            await place.until(lambda: not place.launchers[0].connected)
            assert place.launchers[0].report.phase == "done"

    run(scenario)


def test_a_launcher_silent_past_its_lease_is_out_and_its_line_is_cut():
    async def scenario():
        async with coordinator_at_work() as place, place.dial() as line:
            await greet(line)
            await place.until(lambda: place.launchers)
            place.advance_and_expire(LEASE_SECONDS - 0.1)
            assert place.launchers[0].connected
            told = place.changes
            place.advance_and_expire(0.1)
            assert not place.launchers[0].connected
            assert place.changes == told + 1
            await closed(line)

    run(scenario)


def test_time_in_which_the_coordinator_itself_did_not_listen_runs_out_no_lease():
    async def scenario():
        async with coordinator_at_work() as place, place.dial() as line:
            await greet(line)
            await place.until(lambda: place.launchers)
            place.clock.advance(3600)
            place.coordinator.expire()
            assert place.launchers[0].connected
            place.advance_and_expire(LEASE_SECONDS)
            assert not place.launchers[0].connected

    run(scenario)


def test_it_listens_since_its_start_and_anew_after_every_break():
    async def scenario():
        clock = Clock()
        coordinator = Coordinator(token_of=no_token, on_change=lambda *_: None, clock=clock)
        clock.advance(100)
        assert coordinator.listening_since is None
        await coordinator.start("127.0.0.1", 0)
        try:
            started = clock.now
            clock.advance(1)
            coordinator.expire()
            assert coordinator.listening_since == started
            clock.advance(LEASE_SECONDS)  # the process was stopped: nobody could be heard
            coordinator.expire()
            assert coordinator.listening_since == clock.now
            clock.advance(1)
            coordinator.listen_anew()  # launchers were turned away until now
            assert coordinator.listening_since == clock.now
        finally:
            await coordinator.stop()

    run(scenario)


def test_a_launchers_step_moves_by_the_coordinators_own_clock():
    async def scenario():
        async with coordinator_at_work() as place, place.dial() as line:
            said = 0

            async def say(**changes) -> Launcher:
                nonlocal said
                said += 1
                note = (Notice(str(said), "Warning", "marks the report"),)
                await line.send(encode(Report(phase="running", notices=note, **changes)))
                await place.until(lambda: place.launchers[0].report.notices == note)
                return place.launchers[0]

            await greet(line, report=Report(phase="running", progress=at_step(5)))
            await place.until(lambda: place.launchers)
            assert place.launchers[0].stepped_at is None, "where it is says nothing of whether it moves"
            place.clock.advance(1)
            assert (await say(progress=at_step(5))).stepped_at is None
            place.clock.advance(1)
            moved = place.clock.now
            assert (await say(progress=at_step(6))).stepped_at == moved
            place.clock.advance(1)
            assert (await say(progress=at_step(6))).stepped_at == moved
            assert (await say()).stepped_at == moved, "a new generation has no step yet"
            place.clock.advance(1)
            assert (await say(progress=at_step(4))).stepped_at == place.clock.now

    run(scenario)


def test_a_launcher_that_comes_back_keeps_the_time_of_its_last_step():
    async def scenario():
        async with coordinator_at_work() as place, place.dial() as first:
            await greet(first)
            await place.until(lambda: place.launchers)
            await first.send(encode(Report(progress=at_step(1))))
            await place.until(lambda: place.launchers[0].stepped_at)
            moved = place.clock.now
            place.clock.advance(3)
            async with place.dial() as second:
                await greet(second, report=Report(generation=9, progress=at_step(1)))
                await place.until(lambda: place.launchers[0].report.generation == 9)
                assert place.launchers[0].stepped_at == moved

    run(scenario)


def test_a_launcher_that_left_is_forgotten_after_a_while():
    async def scenario():
        async with coordinator_at_work() as place:
            async with place.dial() as line:
                await greet(line)
                await place.until(lambda: place.launchers)
            await place.until(lambda: not place.launchers[0].connected)
            place.advance_and_expire(599)
            assert place.launchers
            place.advance_and_expire(1)
            assert place.launchers == ()

    run(scenario)


def test_a_second_connection_of_the_same_pod_replaces_the_first():
    async def scenario():
        async with coordinator_at_work() as place, place.dial() as first:
            await greet(first, report=Report(generation=1))
            await place.until(lambda: place.launchers)
            async with place.dial() as second:
                await greet(second, report=Report(generation=2))
                await place.until(lambda: place.launchers[0].report.generation == 2)
                await closed(first)
                (launcher,) = place.launchers
                assert launcher.connected, "the end of the replaced line is not the launcher's end"

    run(scenario)


def test_another_pod_of_the_same_worker_is_kept_beside_the_first():
    async def scenario():
        async with coordinator_at_work() as place, place.dial() as first, place.dial() as second:
            await greet(first, pod_uid="uid-a")
            await greet(second, pod_uid="uid-b")
            await place.until(lambda: len(place.launchers) == 2)
            assert [(one.worker, one.pod_uid, one.connected) for one in place.launchers] == [
                (0, "uid-a", True),
                (0, "uid-b", True),
            ]

    run(scenario)


def test_forget_drops_launchers_order_and_lines():
    async def scenario():
        async with coordinator_at_work() as place, place.dial() as line:
            place.coordinator.publish(*JOB, order(4))
            await greet(line)
            await place.until(lambda: place.launchers)
            place.coordinator.forget(*JOB)
            assert place.launchers == ()
            await closed(line)
            async with place.dial() as again:
                await greet(again)
                await place.until(lambda: place.launchers)
                place.coordinator.publish(*JOB, order(1))
                assert await next_order(again) == order(1)

    run(scenario)


@pytest.mark.parametrize(
    ("said", "code", "reason"),
    [
        (["{"], 1007, "Hello"),
        (["[]"], 1007, "expected an object"),
        (["[" * 100_000], 1007, "Hello: is not readable as JSON"),
        (['{"protocol":"1","worker":0,"pod_uid":"u","address":"a"}'], 1007, "protocol"),
        ([encode(Hello(PROTOCOL_VERSION + 1, 0, "u", "a"))], 1002, "use images of one release"),
        ([encode(Hello(PROTOCOL_VERSION, 5, "u", "a"))], 1008, "Hello.worker is 5, the address says 0"),
        ([encode(Hello(PROTOCOL_VERSION, 0, "", "a"))], 1008, "Hello.podUid has 0 characters"),
        ([encode(Hello(PROTOCOL_VERSION, 0, "u", "a" * 301))], 1008, "Hello.address has 301 characters"),
        ([encode(Hello(PROTOCOL_VERSION, 0, "u", "a")), '{"phase":"asleep"}'], 1007, "asleep"),
        ([encode(Hello(PROTOCOL_VERSION, 0, "u", "a")), '{"leaving":1}'], 1007, "leaving"),
        ([b"\x80\x04."], 1003, "only text"),
    ],
)
def test_a_launcher_that_breaks_the_protocol_is_told_how(said, code, reason):
    async def scenario():
        async with coordinator_at_work() as place, place.dial() as line:
            for text in said:
                await line.send(text)
            error = await closed(line)
            assert error.rcvd.code == code
            assert reason in error.rcvd.reason
            assert not any(launcher.connected for launcher in place.launchers)

    run(scenario)


def test_a_message_longer_than_the_protocol_allows_ends_the_line():
    async def scenario():
        async with coordinator_at_work() as place, place.dial() as line:
            await greet(line)
            await place.until(lambda: place.launchers)
            await line.send("x" * (MAX_MESSAGE_BYTES + 1))
            assert (await closed(line)).rcvd.code == 1009
            await place.until(lambda: not place.launchers[0].connected)

    run(scenario)


def test_while_tokens_cannot_be_looked_up_launchers_are_told_to_try_again():
    async def scenario():
        async with coordinator_at_work() as unused:

            async def token_of(namespace: str, name: str) -> str | None:
                raise ConnectionRefusedError("the API server is away")

            coordinator = type(unused.coordinator)(token_of=token_of, on_change=lambda *_: None)
            unused.port = await coordinator.start("127.0.0.1", 0)
            with pytest.raises(InvalidStatus) as caught:
                async with unused.dial():
                    pass
            assert caught.value.response.status_code == 503
            await coordinator.stop()

    run(scenario)


def test_a_worker_that_no_job_can_have_is_refused():
    async def scenario():
        async with coordinator_at_work() as place:
            for worker in ("2048", "-1", "x", "\u0663"):
                with pytest.raises(InvalidStatus) as caught:
                    async with place.dial(worker):
                        pass
                assert caught.value.response.status_code == 404

    run(scenario)


def test_a_job_holds_no_more_connections_than_two_a_worker(monkeypatch):
    monkeypatch.setattr("rowlock_operator.coordinator.server.MAX_CONNECTIONS", 2)

    async def scenario():
        async with coordinator_at_work() as place, place.dial(0) as first, place.dial(1):
            with pytest.raises(InvalidStatus) as caught:
                async with place.dial(1):
                    pass
            assert caught.value.response.status_code == 503
            await greet(first)
            await place.until(lambda: place.launchers)

    run(scenario)


def test_jobs_that_nobody_is_connected_to_are_forgotten_beyond_the_limit(monkeypatch):
    monkeypatch.setattr("rowlock_operator.coordinator.server.MAX_JOBS", 2)

    async def scenario():
        async with coordinator_at_work() as place, place.dial() as line:
            await greet(line)
            await place.until(lambda: place.launchers)
            for number in range(5):
                place.coordinator.publish("default", f"idle-{number}", order())
            assert place.launchers, "a job with a launcher is never forgotten"

    run(scenario)


def test_other_routes_can_be_mounted_beside():
    async def scenario():
        async with coordinator_at_work() as unused:
            coordinator = type(unused.coordinator)(token_of=unused._token_of, on_change=lambda *_: None)

            async def healthy(_: web.Request) -> web.Response:
                return web.Response(text="ok")

            coordinator.app.router.add_get("/healthz", healthy)
            port = await coordinator.start("127.0.0.1", 0)
            async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/healthz") as response:
                assert await response.text() == "ok"
            await coordinator.stop()

    run(scenario)


def test_stop_closes_lines_without_calling_it_a_change():
    async def scenario():
        async with coordinator_at_work() as place, place.dial() as line:
            await greet(line)
            await place.until(lambda: place.launchers)
            told = place.changes
            await place.coordinator.stop()
            assert (await closed(line)).rcvd.code == 1001
            assert place.changes == told

    run(scenario)
