"""A log that nobody reads slows the ranks down and never the launcher."""

from __future__ import annotations

import asyncio
import os

from rowlock_trainer.launcher.output import HIGH_WATER, OutputWriter, open_output

DEADLINE = 30.0


async def _write_all(descriptor: int, data: bytes) -> None:
    """Write as a rank does that waits for its pipe, without holding up the loop."""
    os.set_blocking(descriptor, False)
    loop = asyncio.get_running_loop()
    view = memoryview(data)
    while view:
        writable = asyncio.Event()
        loop.add_writer(descriptor, writable.set)
        await writable.wait()
        loop.remove_writer(descriptor)
        view = view[os.write(descriptor, view) :]
    os.close(descriptor)


def _read_all(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as log:
        return log.read()


def test_a_full_log_holds_the_rank_back_until_somebody_reads(tmp_path):
    async def scenario():
        log, logged = os.pipe()
        writer = OutputWriter(logged, asyncio.get_running_loop())
        output, descriptor = await open_output(3, writer)
        line = b"x" * 999 + b"\n"
        lines = 4 * HIGH_WATER // len(line)
        rank = asyncio.create_task(_write_all(descriptor, line * lines))
        async with asyncio.timeout(DEADLINE):
            while not writer.full:
                await asyncio.wait([rank], timeout=0.01)
            assert not rank.done(), "the loop still turns, and the rank waits"
            reading = asyncio.create_task(asyncio.to_thread(_read_all, log))
            await rank
            await output.closed
        await asyncio.to_thread(writer.close, DEADLINE)
        os.close(logged)
        assert await reading == (b"[rank 3] " + line) * lines

    asyncio.run(scenario())


def test_a_line_without_an_end_is_passed_on_in_pieces():
    async def scenario():
        log, logged = os.pipe()
        writer = OutputWriter(logged, asyncio.get_running_loop())
        output, descriptor = await open_output(0, writer)
        reading = asyncio.create_task(asyncio.to_thread(_read_all, log))
        await _write_all(descriptor, b"y" * 500_000)
        async with asyncio.timeout(DEADLINE):
            await output.closed
        await asyncio.to_thread(writer.close, DEADLINE)
        os.close(logged)
        lines = (await reading).splitlines()
        assert len(lines) > 1
        assert b"".join(line.removeprefix(b"[rank 0] ") for line in lines) == b"y" * 500_000
        assert len(output.tail) == 2000

    asyncio.run(scenario())
