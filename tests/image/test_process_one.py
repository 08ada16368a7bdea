"""The launcher as process 1 of a container, with a real coordinator outside."""

from __future__ import annotations

import asyncio
import signal

import pytest

from rowlock import protocol
from rowlock.protocol import ExitCode
from tests.trainer.launcher.crew import config, crew_in

pytestmark = pytest.mark.timeout(1800)

#: A grandchild whose parent is gone, which process 1 inherits; the command goes on when it has been collected.
LEAVE_AN_ORPHAN = """
(setsid sh -c 'echo $$ > /tmp/orphan; exec true' &)
until [ -s /tmp/orphan ]; do :; done
while [ -e /proc/$(cat /tmp/orphan) ]; do :; done
echo "collected by $(tr '\\0' ' ' < /proc/1/cmdline)"
exec sleep 3600
"""


def test_process_1_collects_orphans_and_answers_sigterm_with_saved(shop, trainer, tmp_path):
    names = (
        protocol.ENV_CONFIG,
        protocol.ENV_COORDINATOR,
        protocol.ENV_TOKEN_FILE,
        protocol.ENV_POD_UID,
        protocol.ENV_ADDRESS,
    )
    options = ("--network=host", f"--volume={tmp_path}/token:/token:ro", *(f"--env={name}" for name in names))
    container = tuple(shop.command(trainer, options=options))

    async def scenario():
        async with crew_in(tmp_path) as crew:
            command = ("sh", "-c", LEAVE_AN_ORPHAN)
            launcher = await crew.launch(config(command=command), program=container, ROWLOCK_TOKEN_FILE="/token")  # noqa: S106
            await crew.run()
            await launcher.line(r"collected by python3 -m rowlock_trainer\.launcher\.main")
            launcher.send(signal.SIGTERM)
            assert await launcher.exit_code() == ExitCode.SAVED

    asyncio.run(scenario())
