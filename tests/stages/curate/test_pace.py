"""How fast an endpoint is asked: never above its limits, wherever a window is laid, over any number of processes."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillstages.common.blocks import Teacher as TeacherConfig
from distillstages.common.exit import Fault
from distillstages.curate.pace import DAY, IN_PLACE, MINUTE, Pacer, Paused
from tests.stages.curate.conftest import additions
from tests.stages.curate.fake_teacher import FakeTeacher, Raw, solve


@dataclass
class World:
    """A clock that only sleeping moves, and a journal that outlives processes."""

    now: float = 1e9
    lines: list[tuple[float, int]] = field(default_factory=list)
    jitter: random.Random = field(default_factory=lambda: random.Random(1))
    slept: float = 0.0

    async def reserve(self, until: float, requests: int) -> None:
        self.lines.append((until, requests))

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.now += seconds + self.jitter.random() / 50
        await asyncio.sleep(0)

    def pacer(self, *, continued: bool = False, **limits: Any) -> Pacer:
        """As a process has it; its monotonic clock starts anywhere."""
        config = TeacherConfig(name="t", url="http://x/v1", model="m", **limits)
        start = self.now - 7.0
        return Pacer(
            config,
            self,
            list(self.lines),
            continued=continued,
            clock=lambda: self.now - start,
            wall=lambda: self.now,
            sleep=self.sleep,
        )


def most_in_any(window: float, sent: list[tuple[float, int]]) -> int:
    """The most of any half-open window; it is enough to look at those that begin with a request."""
    return max((sum(n for at, n in sent if start <= at < start + window - 1e-6) for start, _ in sent), default=0)


@settings(max_examples=60, deadline=None)
@given(
    limit=st.integers(1, 400),
    tokens=st.integers(50, 5000),
    askers=st.integers(1, 9),
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=200),
    idle=st.lists(st.floats(0, 90), max_size=5),
)
def test_no_minute_sees_more_requests_or_tokens_than_the_limits(
    limit: int, tokens: int, askers: int, sizes: list[int], idle: list[float]
) -> None:
    world, sent = World(), []
    chance = random.Random(limit)

    async def run() -> None:
        pacer = world.pacer(requests_per_minute=limit, tokens_per_minute=tokens)
        waiting = iter(sizes)

        async def ask() -> None:
            for size in waiting:
                turn = await pacer.admit(size)
                used = min(chance.randint(1, size), tokens)
                sent.append((world.now, used))
                for _ in range(chance.randint(0, 5)):
                    await asyncio.sleep(0)
                if idle and chance.random() < 0.02:
                    world.now += idle[0]
                pacer.used(turn, used)

        await asyncio.gather(*(ask() for _ in range(askers)))

    asyncio.run(run())
    assert len(sent) == len(sizes)
    assert most_in_any(MINUTE, [(at, 1) for at, _ in sent]) <= limit
    assert most_in_any(MINUTE, sent) <= tokens


@settings(max_examples=60, deadline=None)
@given(limit=st.integers(1, 700), seed=st.integers(0, 10**6), processes=st.integers(1, 8))
def test_no_24_hours_see_more_requests_than_the_limit_over_any_number_of_killed_processes(
    limit: int, seed: int, processes: int
) -> None:
    world, chance, sent = World(), random.Random(seed), []

    async def process() -> None:
        pacer = world.pacer(requests_per_day=limit)
        for _ in range(chance.randint(1, 2 * limit)):
            try:
                await pacer.admit(10)
            except Paused:
                await pacer.close()
                world.now += pacer.postponed("t", chance.randint(1, 500)).retry_after_seconds or 0
                return
            sent.append((world.now, 1))
            world.now += chance.choice([0, 0, 0.1, 3, 200])
        if chance.random() < 0.5:  # else: killed
            await pacer.close()

    for _ in range(processes):
        asyncio.run(process())
        world.now += chance.choice([0, 1, 3600, 50_000])
    assert most_in_any(DAY, sent) <= limit
    assert sent or limit == 0


def test_a_limit_is_used_up_to_its_last_request() -> None:
    world = World()

    async def process() -> int:
        pacer, sent = world.pacer(requests_per_day=1000), 0
        while True:
            try:
                await pacer.admit(10)
            except Paused:
                return sent
            sent += 1

    assert asyncio.run(process()) == 1000


def test_what_a_process_reserved_and_did_not_send_is_given_back() -> None:
    world = World()

    async def process(requests: int) -> None:
        pacer = world.pacer(requests_per_day=1000)
        for _ in range(requests):
            await pacer.admit(10)
        await pacer.close()

    asyncio.run(process(503))
    assert sum(number for _, number in world.lines) == 503


def test_a_day_that_is_used_up_says_when_it_goes_on_and_lets_a_tenth_become_free() -> None:
    world = World()

    async def process() -> Any:
        pacer = world.pacer(requests_per_day=100)
        for _ in range(100):
            await pacer.admit(10)
            world.now += 360  # ten an hour
        with pytest.raises(Paused):
            await pacer.admit(10)
        assert pacer.exhausted
        return pacer.postponed("teacher 't'", 77)

    said = asyncio.run(process())
    # The first request was sent 10 h ago and counted from the end of its minute; ten of them are gone 14.9 h from now.
    assert said.retry_after_seconds == pytest.approx(DAY + MINUTE - 36_000 + 9 * 360, abs=2)
    assert said.reason == "TeacherDailyLimit"
    assert "requestsPerDay of 100" in said.message
    assert "77 answers are missing, and asking goes on at 2001-09-10 " in said.message


def test_the_end_of_a_short_wait_for_the_day_is_waited_for_in_place() -> None:
    world = World()
    world.lines = [(world.now + IN_PLACE - 5 - DAY, 100)]

    async def process() -> None:
        await world.pacer(requests_per_day=100).admit(10)

    asyncio.run(process())
    assert IN_PLACE - 6 < world.slept < IN_PLACE


def test_a_process_that_continues_takes_the_minute_as_used_up() -> None:
    for continued, least, most in ((False, 0, 0), (True, 60, 60.1)):
        world = World()

        async def process(world: World = world, continued: bool = continued) -> None:
            await world.pacer(continued=continued, requests_per_minute=600, tokens_per_minute=100).admit(50)

        asyncio.run(process())
        assert least <= world.slept <= most


def test_requests_are_let_through_in_the_order_in_which_they_came() -> None:
    world, order = World(), []

    async def run() -> None:
        pacer = world.pacer(requests_per_minute=7, tokens_per_minute=90)

        async def ask(number: int) -> None:
            await pacer.admit(number % 5 * 20 + 1)
            order.append(number)

        await asyncio.gather(*(ask(number) for number in range(30)))

    asyncio.run(run())
    assert order == list(range(30))


def test_a_request_that_is_larger_than_the_limit_goes_alone() -> None:
    world = World()

    async def run() -> None:
        pacer = world.pacer(tokens_per_minute=100)
        for _ in range(3):
            await pacer.admit(5000)

    asyncio.run(run())
    assert 120 <= world.slept < 121


def test_a_reservation_that_cannot_be_written_sends_nothing() -> None:
    world = World()

    async def broken(until: float, requests: int) -> None:
        raise Fault("disk full")

    world.reserve = broken  # type: ignore[method-assign]
    with pytest.raises(Fault):
        asyncio.run(world.pacer(requests_per_day=5).admit(1))


def test_a_stage_at_its_daily_limit_ends_as_postponed_with_all_that_was_answered_recorded(make_stage: Any) -> None:
    with FakeTeacher(delay=0.02) as teacher:
        stage = make_stage(teacher.url, additions(30), teacher={"requestsPerDay": 12})
        finished = stage.run()
        assert (finished.code, finished.message["reason"]) == (75, "TeacherDailyLimit")
        assert teacher.total == 12
        answers = [line for line in stage.journal() if line["kind"] == "answer"]
        verdicts = [line for line in stage.journal() if line["kind"] == "verdict"]
        assert len(answers) == len(verdicts) == 12
        assert DAY / 2 < finished.message["retryAfterSeconds"] <= DAY + MINUTE
        assert "18 answers are missing" in finished.message["message"]
        # The next process knows of it: not one request more.
        stage.attempt = 2
        assert stage.run().code == 75
        assert teacher.total == 12
        # As if a day had passed.
        for path in (stage.output / ".partial").glob("answers-*.jsonl"):
            path.write_text(path.read_text().replace('"until":17', '"until":16').replace('"until":18', '"until":16'))
        stage.attempt, stage.block["teacher"]["requestsPerDay"] = 3, 100
        finished = stage.run()
        assert finished.code == 0, finished.log
        assert finished.numbers["accepted"] == 30
        assert teacher.total == 30


def test_requests_that_fail_count_against_the_day_too(make_stage: Any) -> None:
    def moody(question: str, nth: int) -> Any:
        return Raw(500, "oops") if nth == 1 else solve(question, nth)

    with FakeTeacher(moody) as teacher:
        stage = make_stage(teacher.url, additions(30), teacher={"requestsPerDay": 20, "maxConcurrency": 2})
        assert stage.run().code == 75
        assert teacher.total == 20


def test_sigterm_ends_a_stage_that_waits_for_its_minute_at_once(make_stage: Any) -> None:
    with FakeTeacher() as teacher:
        stage = make_stage(teacher.url, additions(30), teacher={"requestsPerMinute": 1})
        process = stage.start()
        while teacher.total == 0:
            assert process.poll() is None, stage.log
        process.terminate()
        finished = stage.wait()
        assert finished.code == 143
