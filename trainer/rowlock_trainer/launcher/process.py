"""What a launcher asks of Linux: adopt orphans, die with the parent, name an ending in words.

The calls have no wrapper in the standard library. Their numbers are those of <linux/prctl.h>.
"""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)

#: Where the kernel counts the processes it ended for want of memory: cgroup v2, then v1.
_OOM_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")


def adopt_orphans() -> None:
    """Make orphaned descendants children of this process, as process 1 does anyway."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def lead_process_group() -> None:
    """Put this process at the head of a process group of its own."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process with SIGKILL when its parent ends.

    Args:
        parent: Process id of the parent. If it has ended already, this process ends now.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def threads_of_this_process() -> list[str]:
    """Return the names of all threads, those of native libraries too."""
    return [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]


def exit_code(status: int) -> int:
    """Return the exit code of a wait status; 128 + signal when a signal ended the process."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def signal_name(number: int) -> str:
    """Return SIGKILL for 9, and so on."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"  # the real-time signals between SIGRTMIN and SIGRTMAX have no name


def ending(status: int) -> str:
    """Return in words how a process with this wait status ended."""
    if os.WIFSIGNALED(status):
        return f"killed by {signal_name(os.WTERMSIG(status))}"
    return f"ended with exit code {os.waitstatus_to_exitcode(status)}"


def out_of_memory_kills() -> int:
    """Return how many processes of this container the kernel has ended for want of memory."""
    for counter in _OOM_COUNTERS:
        try:
            lines = counter.read_text().splitlines()
        except OSError:
            continue  # the other cgroup version, or no container at all
        for line in lines:
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return 0
