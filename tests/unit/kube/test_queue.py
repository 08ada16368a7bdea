"""The work queue: each key at most once, never two workers at one, failures wait longer and longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from rowlock_operator.kube.queue import WorkQueue

#: A test that waits this long, in seconds, has failed.
DEADLINE = 10.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(test: Callable[[WorkQueue[str], Clock], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        clock = Clock()
        await asyncio.wait_for(test(WorkQueue(clock), clock), DEADLINE)

    asyncio.run(main())


async def taken(queue: WorkQueue[str]) -> str:
    async with queue.take() as key:
        return key


def test_a_key_added_twice_is_handed_out_once() -> None:
    async def test(queue: WorkQueue[str], _: Clock) -> None:
        queue.add("a")
        queue.add("b")
        queue.add("a")
        assert [await taken(queue), await taken(queue)] == ["a", "b"]
        assert len(queue) == 0

    run(test)


def test_a_key_added_while_worked_on_is_handed_out_again_after() -> None:
    async def test(queue: WorkQueue[str], _: Clock) -> None:
        queue.add("a")
        async with queue.take() as key:
            queue.add(key)
            queue.add("b")
            assert await taken(queue) == "b"
            assert len(queue) == 0
        assert await taken(queue) == "a"

    run(test)


def test_a_waiting_worker_wakes_for_a_key() -> None:
    async def test(queue: WorkQueue[str], _: Clock) -> None:
        waiting = asyncio.create_task(taken(queue))
        await asyncio.sleep(0)
        queue.add("a")
        assert await waiting == "a"

    run(test)


def test_a_delayed_key_comes_when_it_is_due_and_the_earliest_wish_counts() -> None:
    async def test(queue: WorkQueue[str], clock: Clock) -> None:
        queue.add_after("a", 60)
        queue.add_after("a", 10)
        queue.add_after("a", 30)
        clock.now = 9.9
        queue.add("b")
        assert await taken(queue) == "b"
        assert (len(queue), queue.delayed) == (0, 1)
        clock.now = 10.0
        assert await taken(queue) == "a"
        assert queue.delayed == 0
        clock.now = 100.0
        queue.add("c")
        assert await taken(queue) == "c"
        assert len(queue) == 0

    run(test)


def test_an_immediate_wish_overtakes_a_delayed_one() -> None:
    async def test(queue: WorkQueue[str], _: Clock) -> None:
        queue.add_after("a", 60)
        queue.add("a")
        assert await taken(queue) == "a"
        assert queue.delayed == 0

    run(test)


def test_failures_in_a_row_wait_longer_up_to_a_minute_and_success_forgets() -> None:
    async def test(queue: WorkQueue[str], _: Clock) -> None:
        waits = [queue.retry("a") for _ in range(20)]
        assert waits[0] <= 0.1
        assert 30 <= waits[-1] <= 60
        queue.succeeded("a")
        assert queue.retry("a") <= 0.1
        assert queue.retry("a", at_least=17) >= 17

    run(test)


def test_wishes_during_a_failing_look_do_not_jump_the_backoff() -> None:
    async def test(queue: WorkQueue[str], _: Clock) -> None:
        queue.add("a")
        async with queue.take() as key:
            queue.add(key)
            queue.retry(key)
        assert (len(queue), queue.delayed) == (0, 1)

    run(test)
