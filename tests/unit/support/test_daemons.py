"""Processes in the background are found again by another command, and nobody else's is ever ended."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cluster.daemons import Daemon, command_lines, descendants, kill_all, start_time
from tests.support.kube_api import wait_until

#: Number of the system call that ends one thread (exit, not exit_group).
EXIT = {"x86_64": 60, "aarch64": 93}
SLEEP = [sys.executable, "-c", "import threading; threading.Event().wait()"]


def daemon(folder: Path) -> Daemon:
    return Daemon("sleeper", folder / "sleeper.json", folder / "logs" / "sleeper.log")


def test_a_daemon_is_found_again_by_its_record_and_ended(tmp_path: Path) -> None:
    daemon(tmp_path).start(SLEEP)
    again = daemon(tmp_path)
    pid = again.pid
    assert pid is not None
    assert start_time(pid) is not None
    again.kill()
    assert start_time(pid) is None
    assert not daemon(tmp_path).running
    again.kill()  # of nothing is nothing


def test_a_daemon_outlives_who_started_it(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from tests.support.cluster.daemons import Daemon; import sys;"
        f"folder = Path({str(tmp_path)!r});"
        f"Daemon('sleeper', folder / 'sleeper.json', folder / 'logs' / 'sleeper.log').start({SLEEP!r})"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[3])
    one = daemon(tmp_path)
    assert one.running
    one.kill()
    assert not one.running


def test_a_process_that_has_the_id_of_an_earlier_daemon_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen(SLEEP)
    try:
        (tmp_path / "sleeper.json").write_text(json.dumps({"pid": stranger.pid, "started": 1}))
        one = daemon(tmp_path)
        assert one.pid is None
        one.kill()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_daemon_that_runs_is_not_started_twice(tmp_path: Path) -> None:
    one = daemon(tmp_path)
    one.start(SLEEP)
    try:
        with pytest.raises(RuntimeError, match="sleeper runs already"):
            one.start(SLEEP)
    finally:
        one.kill()


def test_a_daemon_that_ends_instead_of_getting_ready_is_reported_with_its_last_words(tmp_path: Path) -> None:
    one = daemon(tmp_path)
    one.start([sys.executable, "-c", "print('the port is taken')"])
    with pytest.raises(RuntimeError, match=r"(?s)sleeper ended.*the port is taken"):
        one.await_ready(lambda: False, 30)


def test_children_of_children_are_found_and_ended(tmp_path: Path) -> None:
    program = f"import subprocess, threading; subprocess.Popen({SLEEP!r}); threading.Event().wait()"
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path)
    wait_until(lambda: len(descendants([parent.pid])) == 2, 30, "the child has a child")
    family = descendants([parent.pid])
    assert set(family) <= set(command_lines())
    kill_all(family)
    assert [start_time(pid) for pid in family] == [None, None]
    assert start_time(os.getpid()) is not None


@pytest.mark.skipif(platform.machine() not in EXIT, reason="the number of the system call is not known here")
def test_a_process_whose_first_thread_has_ended_is_not_gone_while_another_holds_its_port() -> None:
    program = (
        "import ctypes, socket, sys, threading;"
        "server = socket.create_server(('127.0.0.1', 0)); print(server.getsockname()[1], flush=True);"
        "threading.Thread(target=sys.stdin.read).start();"
        f"ctypes.CDLL(None).syscall({EXIT[platform.machine()]}, 0)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    port = int(process.stdout.readline())
    state = Path(f"/proc/{process.pid}/stat")
    wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "Z", 30, "its first thread has ended")
    assert start_time(process.pid) is not None
    kill_all([process.pid])
    socket.create_server(("127.0.0.1", port)).close()
