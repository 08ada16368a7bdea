"""The warm parent: a process that has imported torch and forks a rank from itself in milliseconds.

Importing torch and what the first DDP wrapper pulls in takes seconds; a rank that must be replaced cannot
wait for that. So the launcher forks this process first thing, before it has an event loop or a thread, and
this process imports everything once and then does nothing but fork, reap and tell. It never holds a second
thread: a forked child has only the thread that forked, and a lock held by any other stays held for ever.
That is checked before every fork.

When the launcher goes (end of file on the socket) it kills its ranks and ends; when it is itself killed,
the kernel kills the ranks (PR_SET_PDEATHSIG). For a job with a command it warms nothing and executes the
command, so that starting, killing and reaping is done in one way.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from rowlock.protocol import TRACEBACK_CHARS, ExitCode, decode, encode
from rowlock_trainer.channel import RankSetup
from rowlock_trainer.launcher import process
from rowlock_trainer.launcher.wire import PACKET_BYTES, FromZygote, ToZygote

#: Libraries that start threads when they are imported unless told otherwise. The ranks set their own number
#: of threads later (torch.set_num_threads).
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Warmth:
    """What a zygote imports and what a rank then runs, as ``module:function``. Empty: nothing."""

    warm_up: str = ""
    entry: str = ""


def serve(line: socket.socket, warmth: Warmth) -> int:
    """Warm up, then fork and reap ranks until the launcher is gone; return the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Ending is the launcher's affair; it closes the line when it is done.
        signal.signal(number, signal.SIG_IGN)
    try:
        _warm_up(warmth)
    except BaseException as error:  # noqa: BLE001 (whatever an import raises is told to the launcher)
        _tell(line, _cold(warmth, error))
        return ExitCode.FAILED
    return Zygote(line, warmth).run()


def _warm_up(warmth: Warmth) -> None:
    if warmth.warm_up:
        os.environ.update(_ONE_THREAD)
        resolve(warmth.warm_up)()
        # What is alive now is alive for good: the collector need not touch it, and so not copy it, in a rank.
        gc.collect()
        gc.freeze()


def resolve(name: str) -> Callable[..., Any]:
    """Return the function that ``module:function`` names."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def _cold(warmth: Warmth, error: BaseException) -> FromZygote:
    # A module that is missing from the image is missing the next time, too.
    code = ExitCode.CONFIG if isinstance(error, ImportError) else ExitCode.FAILED
    reason = f"warming up with {warmth.warm_up} failed: {type(error).__name__}: {error}"
    tail = "".join(traceback.format_exception(error))[-TRACEBACK_CHARS:]
    return FromZygote("cold", code=code, reason=reason, traceback=tail)


def _tell(line: socket.socket, fact: FromZygote) -> None:
    line.sendall(encode(fact).encode())


class Zygote:
    """Forks ranks, reaps them and tells the launcher."""

    def __init__(self, line: socket.socket, warmth: Warmth) -> None:
        self._line = line
        self._warmth = warmth
        self._ranks: dict[int, int] = {}
        self._exec_errnos: dict[int, int] = {}
        self._wake, self._waker = socket.socketpair()
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Serve until the launcher is gone; return the exit code."""
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler must exist for the wake-up byte to be written
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._line, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        # A broken pipe while telling is the same news as end of file while listening.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            _tell(self._line, FromZygote("warm"))
            serving = True
            while serving:
                serving = self._step()
        self._signal_all(signal.SIGKILL)
        return ExitCode.DONE

    def _step(self) -> bool:
        """Wait for a command or an ended rank; return False when the launcher is gone."""
        for key, _ in self._selector.select():
            if key.fileobj is self._wake:
                self._wake.recv(4096)
                self._reap()
            elif not self._obey():
                return False
        return True

    def _obey(self) -> bool:
        packet, descriptors, _, _ = socket.recv_fds(self._line, PACKET_BYTES, 2)
        if not packet:
            return False
        command = decode(packet, ToZygote)
        if command.kind == "start":
            self._start(command, descriptors)
        else:
            self._signal_all(command.signal)
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def _start(self, command: ToZygote, output: list[int]) -> None:
        if len(names := process.threads_of_this_process()) != 1:
            reason = (
                f"the warm parent holds {len(names)} threads ({', '.join(sorted(set(names)))}) and cannot fork safely: "
                f"{self._warmth.warm_up} must not start any"
            )
            _tell(self._line, FromZygote("refused", command.rank, reason=reason))
            return
        failed_exec, exec_failed = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._be_rank(command, output, parent, exec_failed)
        os.close(exec_failed)
        self._ranks[pid] = command.rank
        if command.command:
            # Empty when execve succeeded, because the other end is closed by it.
            self._exec_errnos[pid] = int(os.read(failed_exec, 16) or b"0")
        os.close(failed_exec)
        _tell(self._line, FromZygote("started", command.rank, pid))

    def _be_rank(self, command: ToZygote, output: list[int], parent: int, exec_failed: int) -> NoReturn:
        """Become the rank. Never returns, whatever happens."""
        code: int = ExitCode.FAILED
        try:
            os.setsid()
            process.die_with_parent(parent)
            self._detach(output)
            if command.command:
                code = _execute(command, exec_failed)
            elif self._warmth.entry:
                code = _run_entry(self._warmth.entry, command.setup or command.environ)
        except BaseException:  # noqa: BLE001 (a rank must never fall back into the zygote's loop)
            traceback.print_exc()
        finally:
            _flush()
            os._exit(code)

    def _detach(self, output: list[int]) -> None:
        """Let go of what belongs to the zygote, and take the rank's own input and output."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._selector.close()
        for end in (self._line, self._wake, self._waker):
            end.close()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for descriptor, standard in ((nothing, 0), (output[0], 1), (output[1], 2)):
            os.dup2(descriptor, standard)
            os.close(descriptor)
        # Line by line, so that what a rank says before it is killed has been said.
        sys.stdout = _text(1)
        sys.stderr = _text(2)

    def _reap(self) -> None:
        while self._ranks:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            # Its process group may hold more (data loaders). The group's number is certainly still its own,
            # because the rank has not been reaped yet.
            _signal_group(ended.si_pid, signal.SIGKILL)
            pid, status = os.waitpid(ended.si_pid, 0)
            rank = self._ranks.pop(pid, None)
            if rank is not None:
                errno = self._exec_errnos.pop(pid, 0)
                _tell(self._line, FromZygote("ended", rank, pid, status, errno))

    def _signal_all(self, number: int) -> None:
        for pid in self._ranks:
            _signal_group(pid, number)


def _signal_group(leader: int, number: int) -> None:
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        # The rank was forked this moment and leads no group yet, or all that is left of it is a zombie.
        os.kill(leader, number)


def _execute(command: ToZygote, exec_failed: int) -> int:
    environ = os.environ | command.environ
    for number in (signal.SIGINT, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command.command[0], command.command, environ)  # noqa: S606 (it is what the job asks for)
    except OSError as error:
        os.write(exec_failed, str(error.errno).encode())
        return ExitCode.NOT_FOUND if isinstance(error, FileNotFoundError) else ExitCode.NOT_EXECUTABLE


def _run_entry(entry: str, setup: RankSetup | dict[str, str]) -> int:
    try:
        return int(resolve(entry)(setup))
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        return end.code if isinstance(end.code, int) else ExitCode.FAILED if end.code else ExitCode.DONE


def _text(descriptor: int) -> io.TextIOWrapper:
    raw = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # the launcher is gone, and nobody reads any more


def main() -> int:
    """Serve as a process of its own, with FD WARM_UP ENTRY as its arguments."""
    descriptor, warm_up, entry = sys.argv[1:]
    return serve(socket.socket(fileno=int(descriptor)), Warmth(warm_up, entry))
