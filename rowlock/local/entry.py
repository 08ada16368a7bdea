"""What a forked local pod runs: the launcher, in the environment a container would have given it."""

from __future__ import annotations

import os

from rowlock_trainer.launcher.main import run_launcher


def run(environ: dict[str, str]) -> int:
    """Become the launcher of a worker; return its exit code."""
    os.environ.update(environ)
    return run_launcher(os.environ)
