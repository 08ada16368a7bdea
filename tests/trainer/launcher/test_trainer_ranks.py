"""Ranks of the built-in trainer: how a launcher starts them, tells of them and lets them go."""

from __future__ import annotations

import asyncio
import signal

import pytest

from rowlock.protocol import ExitCode
from tests.trainer.launcher.behaviours import BEHAVIOUR
from tests.trainer.launcher.crew import config, crew_in, gone, kill


def test_ranks_prepare_report_the_store_and_run_once_it_is_ordered(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config(processes_per_worker=2))
            crew.order("run", processes=2)
            ready = await crew.until_phase("ready")
            assert ready.store == "127.0.0.1:40001"
            crew.order("run", store=ready.store, processes=2)
            running = await crew.until_phase("running")
            assert running.resumed_from == 5
            assert running.progress.step == 7
            assert running.checkpoint.step == 6
            assert {notice.id for notice in running.notices} == {"g1-r0-1", "g1-r1-1"}
            assert await launcher.pid_of_rank(0) != await launcher.pid_of_rank(1)

    asyncio.run(scenario())


def test_a_killed_rank_is_reported_and_the_launcher_stays(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config())
            await crew.run()
            kill(await launcher.pid_of_rank(0))
            ended = await crew.until_phase("ended")
            (ending,) = ended.exits
            assert (ending.rank, ending.code, ending.step) == (0, 137, 7)
            assert ending.reason == "killed by SIGKILL"
            assert ended.progress.step == 7
            assert launcher.process.returncode is None

    asyncio.run(scenario())


def test_a_newer_generation_kills_the_older_ranks_and_starts_its_own(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config())
            await crew.run(1)
            old = await launcher.pid_of_rank(0, 1)
            running = await crew.run(2)
            await gone(old)
            assert await launcher.pid_of_rank(0, 2) != old
            assert running.exits == ()
            assert running.checkpoint.generation == 2

    asyncio.run(scenario())


def test_hold_stops_older_ranks_and_starts_none(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config())
            await crew.run(1)
            crew.order("hold", 2)
            report = await crew.until_phase("idle", 2)
            await gone(await launcher.pid_of_rank(0))
            assert report.checkpoint.step == 6, "the newest checkpoint outlives its generation"

    asyncio.run(scenario())


@pytest.mark.parametrize("holder", ["another-pod", ""], ids=["a zombie", "not adopted yet"])
def test_a_launcher_whose_pod_has_no_place_stops_its_ranks_and_starts_none(tmp_path, holder):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config())
            await crew.run(1)
            old = await launcher.pid_of_rank(0, 1)
            crew.order("run", 2, members=(holder,))
            await crew.until_phase("idle", 2)
            await gone(old)
            crew.order("run", 2, members=("uid-0",))
            await crew.until_phase("ready", 2)

    asyncio.run(scenario())


def test_ranks_that_finish_make_the_worker_done_until_it_is_told_to_leave(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config(), **{BEHAVIOUR: "finishes"})
            crew.order("run", store="127.0.0.1:1")
            done = await crew.until_phase("done")
            assert done.exits == ()
            crew.order("leave")
            assert await launcher.exit_code() == ExitCode.DONE
            assert launcher.termination_log.read_text() == ""

    asyncio.run(scenario())


def test_leave_kills_ranks_that_run_and_asks_to_be_started_again(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config())
            await crew.run()
            crew.order("leave")
            assert await launcher.exit_code() == ExitCode.SAVED
            await gone(await launcher.pid_of_rank(0))

    asyncio.run(scenario())


def test_save_ends_the_ranks_and_keeps_the_launcher(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config())
            await crew.run()
            crew.order("save")
            ended = await crew.until_phase("ended")
            assert [ending.code for ending in ended.exits] == [ExitCode.SAVED]
            await launcher.line(r"^\[rank 0\] saved$")
            assert launcher.process.returncode is None

    asyncio.run(scenario())


def test_ranks_that_do_not_save_in_time_are_killed(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            await crew.launch(config(grace_seconds=0.2), **{BEHAVIOUR: "never saves"})
            await crew.run()
            crew.order("save")
            ended = await crew.until_phase("ended")
            assert [ending.code for ending in ended.exits] == [137]
            assert "had not saved after 0.2 s" in ended.exits[0].reason

    asyncio.run(scenario())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_says_so_saves_and_asks_to_be_started_again(tmp_path, number):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config())
            await crew.run()
            launcher.send(number)
            assert await launcher.exit_code() == ExitCode.SAVED
            await crew.until(lambda: crew.report() is None)
            last = crew.last_report()
            assert last.leaving
            assert [ending.code for ending in last.exits] == [ExitCode.SAVED]
            assert signal.Signals(number).name in launcher.termination_log.read_text()

    asyncio.run(scenario())


def test_a_second_sigterm_ends_at_once(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config(grace_seconds=3600), **{BEHAVIOUR: "never saves"})
            await crew.run()
            launcher.send(signal.SIGTERM)
            await crew.until(lambda: crew.report().leaving)
            launcher.send(signal.SIGTERM)
            assert await launcher.exit_code() == ExitCode.SAVED
            await gone(await launcher.pid_of_rank(0))

    asyncio.run(scenario())


def test_an_idle_launcher_leaves_on_sigterm_without_a_wait(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config(grace_seconds=3600))
            await crew.until_phase("idle", 0)
            launcher.send(signal.SIGTERM)
            assert await launcher.exit_code() == ExitCode.SAVED

    asyncio.run(scenario())


def test_a_rank_that_raises_is_reported_with_its_traceback(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            await crew.launch(config(), **{BEHAVIOUR: "raises"})
            crew.order("run")
            ended = await crew.until_phase("ended")
            (ending,) = ended.exits
            assert (ending.code, ending.reason) == (ExitCode.FAILED, "ended with exit code 1")
            assert ending.traceback.endswith("RuntimeError: the data are gone")

    asyncio.run(scenario())


def test_what_a_rank_says_of_its_end_goes_before_how_its_process_ended(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            await crew.launch(config(), **{BEHAVIOUR: "ends with a word"})
            crew.order("run")
            ended = await crew.until_phase("ended")
            (ending,) = ended.exits
            assert (ending.code, ending.step, ending.traceback) == (ExitCode.PEER_LOST, 3, "tb")
            assert ending.reason == "lost its peer in all_reduce (then killed by SIGABRT)"

    asyncio.run(scenario())
