"""A process that has imported all a rank needs and forks ranks on request: the smallest thing that does.

Reads one JSON object a line, ``{"entry": "module:function", "argument": ...}``, forks a process that calls the
function with the argument and ends with the code it returns. Answers ``started PID``, later ``ended PID CODE``.
"""

from __future__ import annotations

import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback

from rowlock.protocol import decode
from rowlock_trainer.channel import RankSetup
from rowlock_trainer.engine import warm


def main() -> None:
    warm.import_all()
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    say("warm")
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    pending = b""
    while True:
        for key, _ in selector.select():
            if key.fileobj is woken:
                woken.recv(4096)
                reap()
                continue
            data = os.read(0, 1 << 16)
            if not data:
                os._exit(0)  # torch takes seconds to tear itself down
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                start(message["entry"], message["argument"])


def start(entry: str, argument: object) -> None:
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setpgid(0, 0)
        os.dup2(2, 1)  # what a rank says goes to the test's stderr; stdout is the wire
        code = 70  # EX_SOFTWARE: the function raised
        try:
            module, _, name = entry.partition(":")
            code = getattr(importlib.import_module(module), name)(argument)
        except Exception:  # noqa: BLE001 (a forked child must not return into its parent's loop)
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    say(f"started {pid}")


def rank(argument: object) -> int:
    """Be a rank; the argument is its RankSetup."""
    from rowlock_trainer.engine.rank import run_rank

    return run_rank(decode(json.dumps(argument), RankSetup))


def reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        say(f"ended {pid} {os.waitstatus_to_exitcode(status)}")


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


if __name__ == "__main__":
    main()
