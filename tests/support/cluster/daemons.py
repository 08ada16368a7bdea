"""Processes that outlive the command that started them, and are found again by the next one.

Each leaves a record: its process id and the kernel's time of its start. A process id alone may be somebody
else's by the time it is used.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.kube_api import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: A killed process is gone as soon as the kernel has freed its memory; a loaded machine takes its time.
GONE_SECONDS = 30.0


@dataclass(frozen=True)
class Daemon:
    """A program running in the background."""

    name: str
    record: Path
    log: Path

    def start(
        self,
        command: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
        *,
        listens: Sequence[tuple[str, int]] = (),
    ) -> None:
        """Start `command` in a session of its own, its output appended to the log.

        Args:
            command: What to start.
            environment: Its environment, this process's own when None.
            listens: Addresses and ports of this machine that it will listen on: another program that answers there
                would be taken for it.

        Raises:
            RuntimeError: it runs already, or another program has one of its ports.
        """
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        for host, port in listens:
            if not is_free(host, port):
                raise RuntimeError(
                    f"{self.name} is to listen on port {port} of {host}, and another program does: end that one "
                    f"(`ss -ltnp 'sport = :{port}'` names it)"
                )
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as sink:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=dict(environment) if environment is not None else None,
                start_new_session=True,
            )
        self.record.parent.mkdir(parents=True, exist_ok=True)
        self.record.write_text(json.dumps({"pid": process.pid, "started": start_time(process.pid)}))

    @property
    def pid(self) -> int | None:
        """Its process id, None when it does not run."""
        try:
            record = json.loads(self.record.read_text())
        except FileNotFoundError:
            return None
        return record["pid"] if start_time(record["pid"]) == record["started"] else None

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.pid is not None

    def kill(self) -> None:
        """End it as a power cut would, and wait until it is gone."""
        pid = self.pid
        if pid is not None:
            kill_all([pid])
        self.record.unlink(missing_ok=True)

    def tail(self, lines: int = 20) -> str:
        """The end of the log, for an error message."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def await_ready(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until `ready`; a program that ends instead is reported with the end of its log."""

        def answers() -> bool:
            if not self.running:
                raise RuntimeError(f"{self.name} ended; its log, {self.log}, closes with\n{self.tail()}")
            return ready()

        try:
            wait_until(answers, seconds, f"{self.name} is ready")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; its log, {self.log}, closes with\n{self.tail()}") from None


def is_free(host: str, port: int) -> bool:
    """Return whether a program could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when it is gone (or a zombie, which is the same).

    A process with threads is a zombie as soon as its first thread has ended: while others are left, so are its files
    and ports.
    """
    try:
        # The second field, the name, may hold anything, a parenthesis too; the third is the state (proc(5)).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ended = fields[0] in "ZX" and len(list(Path(f"/proc/{pid}/task").iterdir())) < 2
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if ended else int(fields[19])


def kill_all(pids: Sequence[int]) -> None:
    """SIGKILL processes and wait until none of them is left."""
    alive = {pid: began for pid in pids if (began := start_time(pid)) is not None}
    for pid in alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def gone() -> bool:
        for pid in alive:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # our own child would stay a zombie
        return not any(start_time(pid) == began for pid, began in alive.items())

    wait_until(gone, GONE_SECONDS, f"processes {sorted(alive)} are gone")


def command_lines() -> dict[int, list[str]]:
    """The command line of every process."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found[int(folder.name)] = (folder / "cmdline").read_text(errors="replace").split("\0")
    return found


def descendants(pids: Sequence[int]) -> list[int]:
    """All children, grandchildren and so on of `pids`, and `pids` themselves."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(folder.name))
    found: list[int] = []
    todo = list(pids)
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found
