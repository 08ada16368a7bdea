"""The line to the coordinator by itself."""

from __future__ import annotations

import asyncio
import contextlib

from rowlock.protocol import Report
from rowlock_trainer.launcher import link
from rowlock_trainer.launcher.link import Link
from rowlock_trainer.launcher.settings import Settings
from tests.trainer.launcher.crew import JOB, TOKEN, config, crew_in


def test_a_launcher_that_comes_back_says_its_unchanged_state_without_waiting_for_a_heartbeat(tmp_path, monkeypatch):
    monkeypatch.setattr(link, "HEARTBEAT_SECONDS", 3600.0)
    (tmp_path / "token").write_text(TOKEN)

    async def scenario():
        async with crew_in(tmp_path) as crew:
            url = f"ws://127.0.0.1:{crew.port}/v1alpha1/jobs/{JOB[0]}/{JOB[1]}/workers/0"
            settings = Settings(config(), url, tmp_path / "token", "uid-0", "127.0.0.1")
            state = Report(generation=3, phase="running")
            line = Link(settings, lambda: state, lambda _: None)
            running = asyncio.create_task(line.run())
            await crew.until(lambda: crew.report() == state)
            await crew.restart_coordinator()
            assert crew.report() is None
            await crew.until(lambda: crew.report() == state)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    asyncio.run(scenario())
