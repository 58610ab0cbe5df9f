"""The queue merges repeats, works on a key once at a time, retries what failed and stops in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from distillrun.cluster.queue import KeyedQueue


@asynccontextmanager
async def working(work: Callable[[str], Awaitable[float | None]], **options: Any) -> Any:
    queue: KeyedQueue[str] = KeyedQueue(work, **options)
    task = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        await queue.stop()
        task.cancel()


async def settled(queue: KeyedQueue[str]) -> None:
    for _ in range(1000):
        await asyncio.sleep(0.001)
        if queue.idle:
            return
    raise AssertionError("the queue never became idle")


async def test_repeats_before_a_pass_are_one_pass() -> None:
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)

    async with working(work) as queue:
        for key in ("a", "b", "a", "a"):
            queue.add(key)
        await settled(queue)
    assert sorted(seen) == ["a", "b"]


async def test_a_key_added_during_its_pass_gets_one_more_and_never_two_at_a_time() -> None:
    gate, running, most, passes = asyncio.Event(), 0, 0, 0

    async def work(key: str) -> None:
        nonlocal running, most, passes
        running += 1
        passes += 1
        most = max(most, running)
        await gate.wait()
        running -= 1

    async with working(work) as queue:
        queue.add("a")
        await asyncio.sleep(0.01)
        for _ in range(5):
            queue.add("a")
        gate.set()
        await settled(queue)
    assert (passes, most) == (2, 1)


async def test_different_keys_are_worked_on_side_by_side_up_to_the_number_of_workers() -> None:
    gate, running, most = asyncio.Event(), 0, 0

    async def work(key: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1

    async with working(work, workers=3) as queue:
        for key in "abcde":
            queue.add(key)
        await asyncio.sleep(0.02)
        gate.set()
        await settled(queue)
    assert most == 3


async def test_a_pass_that_fails_is_tried_again_and_one_that_succeeds_is_not() -> None:
    tries = 0

    async def work(key: str) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ValueError("not yet")

    async with working(work) as queue:
        queue.add("a")
        while tries < 3:
            await asyncio.sleep(0.01)
        await settled(queue)
        assert queue._timers == {}
        assert queue._failures == {}
    assert tries == 3


async def test_a_pass_that_hangs_is_given_up() -> None:
    started = 0

    async def work(key: str) -> None:
        nonlocal started
        started += 1
        if started == 1:
            await asyncio.Event().wait()

    async with working(work, pass_seconds=0.01) as queue:
        queue.add("a")
        while started < 2:
            await asyncio.sleep(0.01)


async def test_a_pass_says_when_to_look_again_and_an_event_comes_first() -> None:
    passes = 0

    async def work(key: str) -> float:
        nonlocal passes
        passes += 1
        return 3600.0

    async with working(work) as queue:
        queue.add("a")
        await settled(queue)
        assert list(queue._timers) == ["a"]
        queue.add("a")
        assert queue._timers == {}
        await settled(queue)
    assert passes == 2


async def test_the_earlier_of_two_timers_stands() -> None:
    async def work(key: str) -> None: ...

    queue: KeyedQueue[str] = KeyedQueue(work)
    queue.add_after("a", 50)
    early = queue._timers["a"].at
    queue.add_after("a", 100)
    assert queue._timers["a"].at == early
    queue.add_after("a", 10)
    assert queue._timers["a"].at < early
    await queue.stop()


async def test_keys_added_before_the_work_begins_wait_for_it() -> None:
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)

    queue: KeyedQueue[str] = KeyedQueue(work)
    queue.add("a")
    assert (queue.depth, seen) == (1, [])
    task = asyncio.create_task(queue.run())
    await settled(queue)
    await queue.stop()
    await task
    assert seen == ["a"]


async def test_after_stop_nothing_begins_and_what_is_under_way_ends() -> None:
    gate, ended = asyncio.Event(), False

    async def work(key: str) -> None:
        nonlocal ended
        await gate.wait()
        ended = True

    queue: KeyedQueue[str] = KeyedQueue(work)
    task = asyncio.create_task(queue.run())
    queue.add("a")
    await asyncio.sleep(0.01)
    asyncio.get_running_loop().call_later(0.02, gate.set)
    await queue.stop()
    queue.add("b")
    assert ended
    assert queue.depth == 0
    await task


async def test_a_worker_outlives_any_failure_of_a_pass() -> None:
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)
        raise ExceptionGroup("several", [ValueError("one")])

    async with working(work, workers=1) as queue:
        queue.add("a")
        queue.add("b")
        while "b" not in seen:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("failures", [1, 5, 40])
async def test_backoff_grows_and_is_bounded(failures: int) -> None:
    async def work(key: str) -> None: ...

    queue: KeyedQueue[str] = KeyedQueue(work)
    for _ in range(failures):
        queue._timers.clear()
        queue._retry("a", ValueError("no"))
    wait = queue._timers["a"].at - asyncio.get_running_loop().time()
    expected = min(60.0, 0.2 * 2 ** (failures - 1))
    assert 0.7 * expected < wait < 1.3 * expected
    await queue.stop()


async def test_what_is_told_right_after_a_pass_is_one_pass_more_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distillrun.cluster.queue.PAUSE", 1.0)
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)

    async with working(work) as queue:
        queue.add_soon("a")
        await settled(queue)
        assert seen == ["a"], "the first is not kept waiting"
        for _ in range(5):
            queue.add_soon("a")
        assert queue.idle
        await asyncio.sleep(1.1)
        await settled(queue)
        assert seen == ["a", "a"]
        queue.add("a")
        await settled(queue)
        assert seen == ["a", "a", "a"], "add does not wait"


async def test_the_queue_forgets_when_it_worked_on_keys_that_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distillrun.cluster.queue.PAUSE", 0.0)

    async def work(key: str) -> None:
        await asyncio.sleep(0)

    async with working(work) as queue:
        for number in range(50):
            queue.add(f"run-{number}")
            await settled(queue)
        assert len(queue._passed) == 1
