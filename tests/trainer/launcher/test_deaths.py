"""What is left when one of a worker's processes, or the coordinator, is gone."""

from __future__ import annotations

import asyncio
import os
import signal

from rowlock.protocol import ExitCode
from tests.trainer.launcher.behaviours import BEHAVIOUR
from tests.trainer.launcher.crew import config, crew_in, gone, kill


def test_when_the_launcher_is_killed_so_are_its_ranks(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config(processes_per_worker=2))
            await crew.run(processes=2)
            left = [launcher.zygote(), await launcher.pid_of_rank(0), await launcher.pid_of_rank(1)]
            kill(launcher.process.pid)
            for pid in left:
                await gone(pid)

    asyncio.run(scenario())


def test_ranks_end_even_when_launcher_and_warm_parent_are_killed_in_one_instant(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            # A command does not know of its launcher, so that it cannot end by itself when it is alone.
            command = ("sh", "-c", "echo pid $$ generation 1; exec sleep 3600")
            launcher = await crew.launch(config(command=command))
            await crew.run()
            rank = await launcher.pid_of_rank(0)
            os.killpg(launcher.process.pid, signal.SIGKILL)
            await gone(rank)

    asyncio.run(scenario())


def test_when_the_warm_parent_is_killed_its_ranks_are_told_as_ended_and_a_new_one_serves(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config(processes_per_worker=2))
            await crew.run(processes=2)
            kill(launcher.zygote())
            await crew.until(lambda: len(crew.report().exits) == 2)
            for ending in crew.report().exits:
                assert (ending.code, ending.reason) == (137, "killed by SIGKILL: its warm parent died")
            await gone(await launcher.pid_of_rank(0))
            await crew.run(2, processes=2)
            assert await launcher.pid_of_rank(1, generation=2)

    asyncio.run(scenario())


def test_a_warm_parent_that_always_dies_ends_the_launcher(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config(), **{BEHAVIOUR: "killed while warming up"})
            assert await launcher.exit_code() == ExitCode.FAILED
            assert "3 times before it was warm, the last time killed by SIGKILL" in launcher.termination_log.read_text()

    asyncio.run(scenario())


def test_an_image_without_a_needed_module_is_a_fault_of_configuration(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config(), **{BEHAVIOUR: "module missing"})
            assert await launcher.exit_code() == ExitCode.CONFIG
            assert "No module named 'nothing_of_this_name'" in launcher.termination_log.read_text()

    asyncio.run(scenario())


def test_a_warm_parent_with_a_second_thread_refuses_to_fork(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            await crew.launch(config(), **{BEHAVIOUR: "thread while warming up"})
            crew.order("run")
            ended = await crew.until_phase("ended")
            assert "holds 2 threads" in ended.exits[0].reason

    asyncio.run(scenario())


def test_a_restarted_coordinator_hears_everything_again_and_ranks_go_on(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config())
            before = await crew.run()
            rank = await launcher.pid_of_rank(0)
            await crew.restart_coordinator()
            after = await crew.until_phase("running")
            assert after == before
            crew.order("save")
            await crew.until_phase("ended")
            await gone(rank)

    asyncio.run(scenario())


def test_ranks_end_while_the_coordinator_is_away_and_it_is_told_when_it_is_back(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config())
            await crew.run()
            await crew.coordinator.stop()
            kill(await launcher.pid_of_rank(0))
            await launcher.line("rank 0 ended: killed by SIGKILL")
            await crew.restart_coordinator()
            ended = await crew.until_phase("ended")
            assert ended.exits[0].code == 137

    asyncio.run(scenario())
