"""A real coordinator and real launcher processes, and waits on what they say. Nothing here sleeps."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rowlock import protocol
from rowlock.protocol import (
    CheckpointConfig,
    ModelConfig,
    OptimizerConfig,
    Order,
    Report,
    ScheduleConfig,
    TrainerConfig,
    WorkerConfig,
)
from rowlock_operator.coordinator import Coordinator

ROOT = Path(__file__).parents[3]
TOKEN = "token-of-the-job"  # noqa: S105 (of a job that lives for one test)
JOB = ("default", "digits")
#: Far beyond what any of this takes on a busy machine.
DEADLINE = 30.0
TRAINER = TrainerConfig(ModelConfig("mlp"), "digits", 8, 10, OptimizerConfig("sgd", 0.1), ScheduleConfig())
_PROGRAM = (
    "import os, sys; from rowlock_trainer.launcher.main import run_launcher; "
    "b = 'tests.trainer.launcher.behaviours:'; "
    "sys.exit(run_launcher(os.environ, warm_up=b + 'warm_up', entry=b + 'run'))"
)


#: Stands for a folder of the test's own on the job's volume, which a launcher is given when it is started.
UNNAMED = "/the-tests-own"


def config(worker: int = 0, workers: int = 1, **changes: object) -> WorkerConfig:
    base = WorkerConfig("digits", "default", "job-uid", worker, workers, 1, CheckpointConfig(UNNAMED))
    if "command" not in changes:
        base = replace(base, trainer=TRAINER)
    return replace(base, **changes)


@dataclass
class LauncherProcess:
    """One launcher, and what it printed."""

    process: asyncio.subprocess.Process
    termination_log: Path
    lines: list[str] = field(default_factory=list)
    printed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def read(self) -> None:
        async for line in self.process.stdout:
            async with self.printed:
                self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                self.printed.notify_all()

    async def line(self, pattern: str) -> re.Match[str]:
        """Wait for a line that matches, and return the match."""
        async with self.printed:
            try:
                async with asyncio.timeout(DEADLINE):
                    await self.printed.wait_for(lambda: self.found(pattern))
            except TimeoutError:
                raise AssertionError(f"no line like {pattern!r} in:\n" + "\n".join(self.lines)) from None
        return self.found(pattern)

    def found(self, pattern: str) -> re.Match[str] | None:
        return next((match for line in self.lines if (match := re.search(pattern, line))), None)

    async def pid_of_rank(self, rank: int, generation: int = 1) -> int:
        match = await self.line(rf"^\[rank {rank}\] pid (\d+) generation {generation}$")
        return int(match[1])

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    async def exit_code(self) -> int:
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()

    def zygote(self) -> int:
        """Return the process id of the warm parent: the launcher's only child."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(task.read_text().split()[0])


class Crew:
    """A coordinator with its launchers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: The job's directory on its volume.
        self.checkpoints = folder / "volume" / "digits"
        self._changed = asyncio.Event()
        self._launchers: list[LauncherProcess] = []
        self._reading: list[asyncio.Task[None]] = []
        self.coordinator = self._new_coordinator()
        self.port = 0

    def _new_coordinator(self) -> Coordinator:
        async def token_of(namespace: str, name: str) -> str | None:
            return TOKEN if (namespace, name) == JOB else None

        return Coordinator(token_of=token_of, on_change=lambda *_: self._changed.set())

    async def start(self) -> None:
        self.port = await self.coordinator.start("127.0.0.1", 0)

    async def restart_coordinator(self) -> None:
        """Stop the coordinator and start one that knows nothing, on the same port."""
        await self.coordinator.stop()
        self.coordinator = self._new_coordinator()
        await self.coordinator.start("127.0.0.1", self.port)

    async def launch(
        self, config: WorkerConfig, program: tuple[str, ...] = (sys.executable, "-c", _PROGRAM), **environ: str
    ) -> LauncherProcess:
        if config.checkpoint.directory == UNNAMED:
            config = replace(config, checkpoint=CheckpointConfig(str(self.checkpoints)))
        token_file = self._folder / "token"
        token_file.write_text(TOKEN + "\n")
        termination_log = self._folder / f"termination-log-{config.worker}"
        termination_log.touch()
        whole = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "ROWLOCK_TERMINATION_LOG": str(termination_log),
            protocol.ENV_CONFIG: protocol.encode(config),
            protocol.ENV_COORDINATOR: f"http://127.0.0.1:{self.port}",
            protocol.ENV_TOKEN_FILE: str(token_file),
            protocol.ENV_POD_UID: f"uid-{config.worker}",
            protocol.ENV_ADDRESS: "127.0.0.1",
            **environ,
        }
        process = await asyncio.create_subprocess_exec(
            *program, env=whole, stdout=asyncio.subprocess.PIPE, limit=1 << 22
        )
        launcher = LauncherProcess(process, termination_log)
        self._launchers.append(launcher)
        self._reading.append(asyncio.create_task(launcher.read()))
        return launcher

    def order(
        self,
        phase: str,
        generation: int = 1,
        *,
        store: str = "",
        workers: int = 1,
        processes: int = 1,
        members: tuple[str, ...] = (),
    ) -> None:
        self.coordinator.publish(*JOB, Order(generation, phase, workers, processes, store, members))

    def report(self, worker: int = 0) -> Report | None:
        """Return the newest report of a worker that is connected."""
        launchers = self.coordinator.launchers(*JOB)
        return next((one.report for one in launchers if one.worker == worker and one.connected), None)

    def last_report(self, worker: int = 0) -> Report | None:
        """Return the newest report of a worker, connected or not."""
        return next((one.report for one in self.coordinator.launchers(*JOB) if one.worker == worker), None)

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until a condition on what the coordinator knows holds."""
        try:
            async with asyncio.timeout(DEADLINE):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            said = "\n".join(line for launcher in self._launchers for line in launcher.lines)
            known = json.dumps([repr(one) for one in self.coordinator.launchers(*JOB)], indent=1)
            raise AssertionError(f"did not come to hold; known: {known}\nprinted:\n{said}") from None

    async def until_phase(self, phase: str, generation: int = 1, worker: int = 0) -> Report:
        def holds() -> bool:
            report = self.report(worker)
            return report is not None and (report.phase, report.generation) == (phase, generation)

        await self.until(holds)
        return self.report(worker)

    async def run(self, generation: int = 1, **counts: int) -> Report:
        """Bring worker 0 to running in this generation; return its report."""
        self.order("run", generation, **counts)
        ready = await self.until_phase("ready", generation)
        self.order("run", generation, store=ready.store or "127.0.0.1:1", **counts)
        return await self.until_phase("running", generation)

    async def stop(self) -> None:
        for launcher in self._launchers:
            if launcher.process.returncode is None:
                launcher.process.kill()
            await launcher.process.wait()
        await asyncio.gather(*self._reading)
        await self.coordinator.stop()


@asynccontextmanager
async def crew_in(folder: Path):
    """Start a coordinator; leave no process behind."""
    crew = Crew(folder)
    await crew.start()
    try:
        yield crew
    finally:
        await crew.stop()


async def gone(pid: int) -> None:
    """Wait until a process that is not our child has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(DEADLINE):
            await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
