"""What the watches tell reaches the cache, and the queue when it is news."""

from __future__ import annotations

from typing import Any

import pytest

from distillrun import handlers
from distillrun.cluster.cache import Cache, Key
from distillrun.cluster.resources import JOB, RUN, Resource
from tests.unit.cluster import bodies

KEY = ("team", "s1")


class Watch:
    """The handler of one kind, as kopf calls it."""

    def __init__(self, cache: Cache, resource: Resource) -> None:
        self.changed: list[Key] = []
        self.told: list[str] = []
        self.handler = handlers._watch(resource, cache, self.changed.append, lambda kind, body: self.told.append(kind))

    async def tell(self, kind: str | None, body: dict[str, Any]) -> None:
        await self.handler(event={"type": kind, "object": body}, logger=None)


@pytest.fixture
def cache() -> Cache:
    made = Cache()
    made.upsert("DistillRun", bodies.run())
    return made


async def test_a_childs_change_is_news_of_its_run(cache: Cache) -> None:
    watch = Watch(cache, JOB)
    await watch.tell("ADDED", bodies.job())
    await watch.tell("MODIFIED", bodies.job(version=2, active=1))
    await watch.tell("DELETED", bodies.job(version=3))
    assert watch.changed == [KEY, KEY, KEY]


async def test_the_echo_of_our_own_write_is_heard_but_no_news(cache: Cache) -> None:
    cache.upsert("Job", bodies.job(version=5))
    watch = Watch(cache, JOB)
    await watch.tell("ADDED", bodies.job(version=5))
    assert (watch.told, watch.changed) == (["Job"], [])


async def test_the_watchs_own_first_list_of_what_was_listed_before_is_no_news(cache: Cache) -> None:
    watch = Watch(cache, RUN)
    await watch.tell(None, bodies.run())
    assert watch.changed == []
    await watch.tell("MODIFIED", bodies.run(version=2))
    assert watch.changed == [KEY]


async def test_a_run_that_goes_is_always_news(cache: Cache) -> None:
    watch = Watch(cache, RUN)
    await watch.tell("DELETED", bodies.run())
    assert watch.changed == [KEY]
    assert cache.run(KEY) is None


async def test_kopf_keeps_nothing_about_an_object() -> None:
    memories = handlers.NoMemories()
    await memories.recall(bodies.run(), noticed_by_listing=True)
    assert list(memories.iter_all_memories()) == []
