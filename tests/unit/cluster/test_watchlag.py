"""Watch lag: from the answer to our own write until its watch tells it."""

from __future__ import annotations

from typing import Any

import pytest

from distillrun.cluster.cache import Cache
from distillrun.cluster.watchlag import PENDING, WatchLag
from tests.unit.cluster import bodies


class World:
    """A cache, a clock and what was observed."""

    def __init__(self) -> None:
        self.now = 100.0
        self.seen: list[tuple[str, float]] = []
        self.cache = Cache()
        self.lag = WatchLag(self.cache, lambda kind, seconds: self.seen.append((kind, seconds)), lambda: self.now)

    def write(self, body: dict[str, Any]) -> None:
        self.lag.wrote("Job", body)
        self.cache.upsert("Job", body)

    def tell(self, body: dict[str, Any]) -> None:
        self.cache.upsert("Job", body)
        self.lag.told("Job", body)


@pytest.fixture
def world() -> World:
    return World()


def test_a_write_lags_until_the_watch_tells_it_or_something_newer(world: World) -> None:
    world.write(bodies.job(version=5))
    world.now += 2
    assert world.lag.oldest() == {"Job": 2.0}
    world.tell(bodies.job(version=4))
    assert world.seen == []
    world.now += 1
    world.tell(bodies.job(version=7))
    assert world.seen == [("Job", 3.0)]
    assert world.lag.oldest() == {}


def test_a_watch_that_is_faster_than_the_answer_does_not_lag(world: World) -> None:
    world.tell(bodies.job(version=5))
    world.write(bodies.job(version=5))
    assert world.seen == [("Job", 0.0)]
    assert world.lag.oldest() == {}


def test_the_older_of_two_writes_is_the_one_that_is_late(world: World) -> None:
    world.write(bodies.job(version=5))
    world.now += 10
    world.write(bodies.job(version=6))
    assert world.lag.oldest() == {"Job": 10.0}


def test_what_is_gone_or_was_made_anew_is_not_waited_for(world: World) -> None:
    world.write(bodies.job("a", version=5))
    world.write(bodies.job("b", version=6))
    world.cache.drop(("Job", "team", "a"), "uid-a", 9)
    world.cache.upsert("Job", {**bodies.job("b"), "metadata": bodies.meta("b", 8, uid="another")})
    assert world.lag.oldest() == {}


def test_no_more_than_so_many_writes_are_remembered(world: World) -> None:
    for number in range(PENDING + 10):
        world.write(bodies.job(f"j{number}"))
    world.tell(bodies.job("j0", version=2))
    assert world.seen == []
    world.tell(bodies.job(f"j{PENDING}", version=2))
    assert len(world.seen) == 1
