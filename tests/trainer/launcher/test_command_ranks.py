"""Jobs with a command of their own: torchrun's environment, signals, and what goes wrong with commands."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from rowlock.protocol import TRACEBACK_CHARS, ExitCode
from tests.trainer.launcher.crew import config, crew_in, gone, kill


def python(program: str) -> tuple[str, ...]:
    return (sys.executable, "-c", program)


async def until_ended(crew, *command: str):
    """Run a command in generation 1 and return the report of its end, and its launcher."""
    launcher = await crew.launch(config(command=command))
    crew.order("run")
    ready = await crew.until_phase("ready")
    crew.order("run", store=ready.store)
    await crew.until(lambda: crew.report() and crew.report().phase in ("ended", "done"))
    return crew.report(), launcher


def test_a_command_is_ready_without_being_started_and_gets_torchruns_environment(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            program = "import json, os; print('env', json.dumps(dict(os.environ)))"
            launcher = await crew.launch(
                config(worker=1, workers=3, processes_per_worker=2, command=python(program)), OMP_NUM_THREADS="1"
            )
            crew.order("run", 4, workers=3, processes=2)
            ready = await crew.until_phase("ready", 4, worker=1)
            assert ready.store == "", "the store is worker 0's"
            assert not launcher.found("started")
            crew.order("run", 4, store="10.0.0.7:23456", workers=3, processes=2)
            await crew.until_phase("done", 4, worker=1)
            match = await launcher.line(r"^\[rank 3\] env (.*)$")
            environ = json.loads(match[1])
            expected = {
                "RANK": "3",
                "LOCAL_RANK": "1",
                "WORLD_SIZE": "6",
                "LOCAL_WORLD_SIZE": "2",
                "GROUP_RANK": "1",
                "GROUP_WORLD_SIZE": "3",
                "ROLE_NAME": "default",
                "ROLE_RANK": "3",
                "ROLE_WORLD_SIZE": "6",
                "MASTER_ADDR": "10.0.0.7",
                "MASTER_PORT": "23456",
                "TORCHELASTIC_RESTART_COUNT": "3",
                "TORCHELASTIC_RUN_ID": "job-uid",
                "OMP_NUM_THREADS": "1",
                "ROWLOCK_GENERATION": "4",
                "ROWLOCK_CHECKPOINT_DIR": str(crew.checkpoints),
                "ROWLOCK_JOB": "digits",
            }
            assert {name: environ.get(name) for name in expected} == expected
            assert int(environ["TORCHELASTIC_MAX_RESTARTS"]) > 0

    asyncio.run(scenario())


def test_a_command_finds_its_directory_on_the_volume(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            program = "import os, pathlib; pathlib.Path(os.environ['ROWLOCK_CHECKPOINT_DIR'], 'kept').write_text('7')"
            report, _ = await until_ended(crew, *python(program))
            assert report.phase == "done"
            assert (crew.checkpoints / "kept").read_text() == "7"

    asyncio.run(scenario())


def test_a_command_whose_directory_cannot_be_made_says_so_and_blames_the_volume(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            crew.checkpoints.parent.mkdir(parents=True, exist_ok=True)
            crew.checkpoints.write_text("in the way")
            report, _ = await until_ended(crew, "true")
            assert [one.code for one in report.exits] == [ExitCode.STORAGE]
            assert f"ROWLOCK_CHECKPOINT_DIR {crew.checkpoints} cannot be made" in report.exits[0].reason

    asyncio.run(scenario())


def test_worker_0_names_a_store_outside_the_ephemeral_range(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            await crew.launch(config(command=("true",)))
            crew.order("run")
            ready = await crew.until_phase("ready")
            host, _, port = ready.store.rpartition(":")
            assert host == "127.0.0.1"
            assert 20_000 <= int(port) < 30_000

    asyncio.run(scenario())


def test_a_command_that_is_not_found_is_final_and_says_where_was_looked(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            report, launcher = await until_ended(crew, "trainx", "--fast")
            (ending,) = report.exits
            assert ending.code == ExitCode.NOT_FOUND
            assert ending.reason.startswith("command 'trainx' was not found in the image's PATH (")
            assert launcher.process.returncode is None

    asyncio.run(scenario())


def test_a_file_that_is_not_executable_is_final(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            script = tmp_path / "train.sh"
            script.write_text("#!/bin/sh\n")
            report, _ = await until_ended(crew, str(script))
            (ending,) = report.exits
            assert ending.code == ExitCode.NOT_EXECUTABLE
            assert ending.reason.endswith("cannot be executed: Permission denied; is its executable bit set?")

    asyncio.run(scenario())


def test_a_shell_that_does_not_find_its_command_is_told_apart(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            report, _ = await until_ended(crew, "sh", "-c", "trainx")
            (ending,) = report.exits
            assert ending.code == ExitCode.NOT_FOUND
            assert ending.reason == "ended with exit code 127 (a command it called was not found)"
            assert "trainx" in ending.traceback

    asyncio.run(scenario())


def test_the_end_of_standard_error_is_kept_whatever_its_bytes(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            program = (
                "import sys; e = sys.stderr.buffer; e.write(b'x' * 300000 + b'\\n'); "
                "e.write(b'\\xff\\xfe broken \\x1b[31m\\n'); e.write('Verlust: größer'.encode()); sys.exit(3)"
            )
            report, launcher = await until_ended(crew, *python(program))
            (ending,) = report.exits
            assert ending.code == 3
            assert ending.traceback.endswith("\ufffd\ufffd broken [31m\nVerlust: größer")
            assert len(ending.traceback) <= TRACEBACK_CHARS
            await launcher.line(r"^\[rank 0\] Verlust: größer$")

    asyncio.run(scenario())


def test_a_flood_of_output_passes_whole_while_the_worker_keeps_reporting(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            lines = 100_000
            program = f"import sys\nfor n in range({lines}): sys.stdout.write(f'line {{n}} of many that say little\\n')"
            report, launcher = await until_ended(crew, *python(program))
            assert report.phase == "done"
            await launcher.line(rf"^\[rank 0\] line {lines - 1} of")
            assert sum(line.startswith("[rank 0] line ") for line in launcher.lines) == lines

    asyncio.run(scenario())


def test_save_sends_sigterm_and_counts_the_end_as_saved(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config(command=("sh", "-c", "echo up; exec sleep 3600")))
            await crew.run()
            await launcher.line(r"^\[rank 0\] up$")
            crew.order("save")
            ended = await crew.until_phase("ended")
            assert [ending.code for ending in ended.exits] == [ExitCode.SAVED]

    asyncio.run(scenario())


def test_a_command_that_ignores_sigterm_is_killed_after_its_grace(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            command = ("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done")
            launcher = await crew.launch(config(command=command, grace_seconds=0.2))
            await crew.run()
            await launcher.line(r"^\[rank 0\] up$")
            crew.order("save")
            ended = await crew.until_phase("ended")
            assert ended.exits[0].code == 137
            assert "had not saved after 0.2 s" in ended.exits[0].reason

    asyncio.run(scenario())


def test_save_before_the_start_ends_ranks_that_never_were(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config(command=("true",)))
            crew.order("run")
            await crew.until_phase("ready")
            crew.order("save")
            ended = await crew.until_phase("ended")
            assert [ending.code for ending in ended.exits] == [ExitCode.SAVED]
            assert not launcher.found("started, process")

    asyncio.run(scenario())


@pytest.mark.parametrize("victim", ["rank", "launcher"])
def test_what_a_command_started_goes_with_it(tmp_path, victim):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config(command=("sh", "-c", "sleep 3600 & echo child $! of $$; wait")))
            await crew.run()
            match = await launcher.line(r"child (\d+) of (\d+)")
            kill(int(match[2]) if victim == "rank" else launcher.process.pid)
            await gone(int(match[1]))

    asyncio.run(scenario())


def test_a_newer_generation_starts_the_command_anew(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            command = ("sh", "-c", "echo pid $$ generation $ROWLOCK_GENERATION; exec sleep 3600")
            launcher = await crew.launch(config(command=command))
            await crew.run(1)
            old = await launcher.pid_of_rank(0, 1)
            await crew.run(2)
            await gone(old)
            assert await launcher.pid_of_rank(0, 2) != old

    asyncio.run(scenario())


def test_orphans_that_leave_their_group_are_collected(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            report, launcher = await until_ended(crew, "sh", "-c", "setsid sh -c 'echo orphan $$; exec true' & wait")
            assert report.phase == "done"
            match = await launcher.line(r"orphan (\d+)")
            await gone(int(match[1]))

    asyncio.run(scenario())
