"""Who may speak to a launcher as one of its ranks, and what its socket leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rowlock.protocol import ExitCode, decode, encode
from rowlock_trainer.channel import RankCommand, RankState
from rowlock_trainer.launcher.rank_server import Peer, RankServer
from tests.trainer.launcher.crew import config, crew_in, gone

#: sun_path of unix(7) holds 108 bytes.
LONG = "d" * 120


def said_to(server: RankServer) -> list[bytes]:
    """Connect as a rank that says it is ready, and return all lines until the server closes."""

    async def scenario() -> list[bytes]:
        await server.start()
        reader, writer = await asyncio.open_unix_connection(server.path)
        writer.write(encode(RankState(1, 0, "ready")).encode() + b"\n")
        lines: list[bytes] = []
        # Closing before it has read what was sent, the server resets the connection: an end like any other.
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(30):
                async for line in reader:
                    lines.append(line)  # noqa: PERF401 (what came before the reset counts)
        writer.close()
        server.stop()
        return lines

    return asyncio.run(scenario())


def test_a_process_of_this_user_is_heard_and_told_the_wish() -> None:
    heard: list[RankState] = []

    def hear(state: RankState) -> bool:
        heard.append(state)
        return False  # the server hangs up

    (line,) = said_to(RankServer(hear))
    assert decode(line, RankCommand) == RankCommand()
    assert heard == [RankState(1, 0, "ready")]


def test_a_process_of_another_user_is_neither_heard_nor_told(caplog: pytest.LogCaptureFixture) -> None:
    server = RankServer(lambda _: pytest.fail("heard"), uid=os.geteuid() + 1)
    assert said_to(server) == []
    assert f"process {os.getpid()} of user {os.geteuid()} connected" in caplog.text


def test_a_process_of_another_pid_namespace_may_not_speak() -> None:
    assert Peer(pid=17, uid=1000).may_speak(1000)
    assert not Peer(pid=0, uid=1000).may_speak(1000)
    assert not Peer(pid=17, uid=0).may_speak(1000)


def test_two_launchers_never_share_a_name_and_a_name_is_no_file() -> None:
    async def names() -> set[str]:
        servers = [RankServer(lambda _: True) for _ in range(2)]
        for server in servers:
            await server.start()
        paths = {server.path for server in servers}
        for server in servers:
            server.stop()
        return paths

    paths = asyncio.run(names())
    assert len(paths) == 2
    assert all(path.startswith("\0") and len(path) < 108 for path in paths)


def test_a_worker_with_a_long_temporary_directory_works_and_leaves_nothing_there_when_killed(tmp_path: Path) -> None:
    temporary = tmp_path / LONG
    temporary.mkdir()

    async def scenario() -> None:
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config(), TMPDIR=str(temporary))
            await crew.run()
            rank = await launcher.pid_of_rank(0)
            launcher.send(signal.SIGKILL)
            await gone(rank)

    asyncio.run(scenario())
    assert list(temporary.iterdir()) == []


def test_the_launcher_is_a_module_to_run() -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ROWLOCK_")}
    command = [sys.executable, "-m", "rowlock_trainer.launcher"]
    ended = subprocess.run(command, env=plain, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == ExitCode.CONFIG
    assert ended.stdout.startswith("launcher: cannot start: ROWLOCK_CONFIG is not set")
    assert ended.stderr == ""
