"""The line to the coordinator by itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from rowlock.protocol import Report
from rowlock_operator.kube import main
from rowlock_trainer.launcher import link
from rowlock_trainer.launcher.link import Link
from rowlock_trainer.launcher.settings import Settings
from tests.trainer.launcher.crew import JOB, TOKEN, config, crew_in


def test_a_launcher_that_comes_back_says_its_unchanged_state_without_waiting_for_a_heartbeat(tmp_path, monkeypatch):
    monkeypatch.setattr(link, "HEARTBEAT_SECONDS", 3600.0)
    (tmp_path / "token").write_text(TOKEN)

    async def scenario():
        async with crew_in(tmp_path) as crew:
            url = f"ws://127.0.0.1:{crew.port}/v1alpha1/jobs/{JOB[0]}/{JOB[1]}/workers/0"
            settings = Settings(config(), url, tmp_path / "token", "uid-0", "127.0.0.1")
            state = Report(generation=3, phase="running")
            line = Link(settings, lambda: state, lambda _: None)
            running = asyncio.create_task(line.run())
            await crew.until(lambda: crew.report() == state)
            await crew.restart_coordinator()
            assert crew.report() is None
            await crew.until(lambda: crew.report() == state)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    asyncio.run(scenario())


def test_an_address_that_does_not_answer_does_not_hold_up_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(link, "_OPEN_SECONDS", 3600.0)
    (tmp_path / "token").write_text(TOKEN)

    async def scenario():
        async with crew_in(tmp_path) as crew:
            with silent_address(crew.port) as dead:
                resolve_to(monkeypatch, [dead, "127.0.0.1"])
                url = f"ws://coordinator.test:{crew.port}/v1alpha1/jobs/{JOB[0]}/{JOB[1]}/workers/0"
                async with linked(url, tmp_path):
                    await crew.until(lambda: crew.report() is not None)

    asyncio.run(scenario())


def test_a_coordinator_that_takes_a_connection_and_says_nothing_is_left_for_the_one_that_follows_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(link, "_OPEN_SECONDS", 0.2)
    (tmp_path / "token").write_text(TOKEN)

    async def scenario():
        async with crew_in(tmp_path) as crew:
            leader = {"address": "127.0.0.2"}  # what a Service does: one name, and the leader of now behind it
            resolve_to(monkeypatch, [], leader)
            url = f"ws://coordinator.test:{crew.port}/v1alpha1/jobs/{JOB[0]}/{JOB[1]}/workers/0"
            with socket.socket() as mute:
                mute.bind((leader["address"], crew.port))
                mute.listen()
                mute.setblocking(False)
                async with linked(url, tmp_path):
                    taken, _ = await asyncio.get_running_loop().sock_accept(mute)
                    with taken:
                        leader["address"] = "127.0.0.1"
                        await crew.until(lambda: crew.report() is not None)

    asyncio.run(scenario())


def test_a_launcher_is_back_within_the_lease_it_is_given():
    # A try that is under way when the leader changes, and the longest wait before the next one.
    assert link._OPEN_SECONDS + link.LONGEST_DELAY < link.LEASE_SECONDS
    # The operator lets an early launcher wait for its first list; the launcher must outwait that.
    assert main.LISTED_WITHIN_SECONDS < link._OPEN_SECONDS


@contextlib.asynccontextmanager
async def linked(url, folder):
    """A line from a launcher that has nothing to do."""
    settings = Settings(config(), url, folder / "token", "uid-0", "127.0.0.1")
    running = asyncio.create_task(Link(settings, Report, lambda _: None).run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@contextlib.contextmanager
def silent_address(port):
    """An address whose host drops what is sent to it: here, a listener whose queue is full."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.3", port))
        listener.listen(0)
        for _ in range(8):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.3", port))
        yield "127.0.0.3"


def resolve_to(monkeypatch, addresses, leader=None):
    """Have the resolver know a name that no test machine knows."""
    known = socket.getaddrinfo

    def resolve(host, port, *rest, **more):
        if host != "coordinator.test":
            return known(host, port, *rest, **more)
        found = [leader["address"]] if leader else addresses
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (one, port)) for one in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
