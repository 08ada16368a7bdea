"""A process whose time to lead is over ends, whatever it is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from rowlock_operator.kube.deadline import LOST_EXIT_CODE

#: Far beyond what any of this takes.
DEADLINE_SECONDS = 30


def leader(doing: str) -> subprocess.Popen[str]:
    """A process that is set a deadline of 0.3 s, says "set" and then does something."""
    program = f"""
import asyncio, logging, os, sys, time
from rowlock_operator.kube.deadline import Deadline
logging.basicConfig(stream=sys.stderr)
deadline = Deadline()
deadline.set(0.3)
print("set", flush=True)
{textwrap.dedent(doing)}
"""
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )


@pytest.mark.parametrize(
    "doing",
    [
        "asyncio.run(asyncio.sleep(3600))",
        "while True: pass",  # a loop that never gets back to its events
        "time.sleep(3600)",
        "try:\n    time.sleep(3600)\nexcept BaseException:\n    time.sleep(3600)",
    ],
)
def test_it_ends_at_its_deadline_with_a_code_of_its_own_and_says_why(doing: str) -> None:
    process = leader(doing)
    _, words = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == LOST_EXIT_CODE
    assert "no longer the leader: the lease could not be renewed in time" in words


def test_one_that_was_stopped_past_its_deadline_does_nothing_more_when_it_runs_on() -> None:
    # It writes for as long as it lives, so what it writes after it was stopped is what it did after its deadline.
    process = leader('while True: os.write(1, b".")')
    assert process.stdout is not None
    assert process.stdout.readline() == "set\n"
    os.kill(process.pid, signal.SIGSTOP)
    stopped_at = time.monotonic()
    os.set_blocking(process.stdout.fileno(), False)
    while time.monotonic() < stopped_at + 0.5:  # past its deadline; nothing but time can bring that about
        drain(process.stdout.fileno())
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait(DEADLINE_SECONDS) == LOST_EXIT_CODE
    # The system call that was under way when it was stopped may be finished, no other.
    assert drain(process.stdout.fileno()) <= 1


def drain(descriptor: int) -> int:
    """Read what can be read now; return how many bytes that were."""
    count = 0
    try:
        while part := os.read(descriptor, 1 << 16):
            count += len(part)
    except BlockingIOError:
        return count
    return count


def test_a_renewal_moves_the_deadline_and_one_that_comes_too_late_ends_it() -> None:
    process = leader("deadline.set(3600.0); time.sleep(1.0); print('alive', flush=True); deadline.set(0.0)")
    told, words = process.communicate(timeout=DEADLINE_SECONDS)
    assert "alive" in told
    assert process.returncode == LOST_EXIT_CODE
    assert "no longer the leader" in words


def test_one_that_gave_the_lease_back_has_no_deadline() -> None:
    process = leader("deadline.clear(); time.sleep(0.6); print('alive', flush=True)")
    told, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert "alive" in told
    assert process.returncode == 0
