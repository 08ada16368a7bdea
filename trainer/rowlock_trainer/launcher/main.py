"""Where a worker begins: read the environment, fork the warm parent, then serve.

The order matters. The warm parent must be forked while this process has one thread and no event loop, and
nothing may be started before the environment is known to be right.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from rowlock.protocol import ExitCode
from rowlock_trainer.launcher import process
from rowlock_trainer.launcher.launcher import End, Launcher
from rowlock_trainer.launcher.output import LogHandler, OutputWriter
from rowlock_trainer.launcher.reaper import Reaper
from rowlock_trainer.launcher.settings import Settings, SettingsError, read_settings
from rowlock_trainer.launcher.spawner import Spawner
from rowlock_trainer.launcher.zygote import Warmth

log = logging.getLogger("rowlock.launcher")

#: What a rank of the built-in trainer imports and runs, as ``module:function``.
WARM_UP = "rowlock_trainer.engine.warm:import_all"
ENTRY = "rowlock_trainer.engine.rank:run_rank"
#: File whose content Kubernetes shows as the container's termination message, and where tests put it.
ENV_TERMINATION_LOG = "ROWLOCK_TERMINATION_LOG"
_TERMINATION_LOG = "/dev/termination-log"
#: Kubernetes keeps this many bytes of it.
_TERMINATION_BYTES = 4096
#: How long the last lines of the log may take, in seconds.
_LOG_SECONDS = 2.0


def main() -> int:
    """Run a worker's launcher with this process's environment; return the exit code."""
    return run_launcher(os.environ)


def run_launcher(environ: Mapping[str, str], *, warm_up: str = WARM_UP, entry: str = ENTRY) -> int:
    """Run a launcher in this process, which may have been forked from a warm parent just now.

    Args:
        environ: Environment of the worker; what it holds is put into this process's own, too.
        warm_up: What the warm parent imports once, as ``module:function``; the function takes nothing.
        entry: What a rank runs, as ``module:function``; it takes a RankSetup and returns an exit code.

    Returns:
        An `ExitCode`: DONE when this worker's ranks finished, SAVED when it should be started again, CONFIG
        when it cannot run as it is written.
    """
    os.environ.update(environ)
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        end = End(ExitCode.CONFIG, str(error))
        sys.stdout.write(f"launcher: cannot start: {error}\n")
        sys.stdout.flush()
    else:
        end = _serve(settings, Warmth(warm_up, entry) if settings.config.trainer else Warmth())
    if end.code != ExitCode.DONE:
        _write_termination_log(end)
    return end.code


def _serve(settings: Settings, warmth: Warmth) -> End:
    process.lead_process_group()
    process.adopt_orphans()
    reaper = Reaper()
    spawner = Spawner(warmth, reaper)
    spawner.fork()
    return asyncio.run(_run(settings, spawner, reaper))


async def _run(settings: Settings, spawner: Spawner, reaper: Reaper) -> End:
    loop = asyncio.get_running_loop()
    writer = OutputWriter(sys.stdout.fileno(), loop)
    handler = LogHandler(writer)
    handler.setFormatter(
        logging.Formatter(f"%(asctime)s worker {settings.config.worker}: %(message)s", "%Y-%m-%dT%H:%M:%S%z")
    )
    logger = logging.getLogger("rowlock")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    reaper.attach(loop)
    try:
        return await Launcher(settings, spawner, writer).run()
    finally:
        logger.removeHandler(handler)
        writer.close(_LOG_SECONDS)


def _write_termination_log(end: End) -> None:
    path = Path(os.environ.get(ENV_TERMINATION_LOG, _TERMINATION_LOG))
    if path.exists() and os.access(path, os.W_OK):
        text = f"{end.reason}\n{end.traceback}".strip()
        path.write_bytes(text.encode()[:_TERMINATION_BYTES])


if __name__ == "__main__":
    sys.exit(main())
