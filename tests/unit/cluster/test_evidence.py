"""Before a pass over a Job that has ended, its pods are read unless their endings are known; each read happens once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from distillrun.cluster.cache import Cache
from distillrun.cluster.client import Page
from distillrun.cluster.evidence import ASK_AGAIN, PATIENCE, Evidence
from distillrun.plan.model import Refusal, Run
from tests.unit.cluster import bodies

CREATED = datetime.fromisoformat(bodies.CREATED).astimezone(UTC)
COMPLETE = {"conditions": [{"type": "Complete", "status": "True"}], "active": 0}


def terminated(version: int) -> dict[str, Any]:
    statuses = [{"name": "stage", "state": {"terminated": {"exitCode": 0, "message": "{}"}}}]
    return bodies.pod(version=version, phase="Succeeded", containerStatuses=statuses)


class Lists:
    """Stands for the client: gives these items and remembers what was asked."""

    def __init__(self, *items: dict[str, Any]) -> None:
        self.items = list(items)
        self.asked: list[tuple[str, str]] = []

    async def list(self, resource: Any, namespace: str, *, labels: str = "", fields: str = "") -> AsyncIterator[Page]:
        self.asked.append((resource.kind, labels or fields))
        yield Page(self.items, "1")


def world(job: dict[str, Any], *pods: dict[str, Any], lists: Lists, **status: Any) -> tuple[Cache, Run, Evidence]:
    cache = Cache()
    cache.upsert("DistillRun", bodies.run(status=status))
    cache.upsert("Job", job)
    for pod in pods:
        cache.upsert("Pod", pod)
    run = cache.run(("team", "s1"))
    assert run is not None
    return cache, run, Evidence(lists, cache)  # type: ignore[arg-type]


async def test_a_complete_job_whose_pod_is_still_seen_running_has_its_pods_read_once() -> None:
    lists = Lists(terminated(9))
    cache, run, evidence = world(bodies.job(**COMPLETE), bodies.pod(version=3), lists=lists)
    assert await evidence.endings(run, cache.observe(run))
    assert cache.observe(run).pods["s1-train-0"].end is not None
    assert not await evidence.endings(run, cache.observe(run))
    assert lists.asked == [("Pod", "distillrun.dev/run,batch.kubernetes.io/job-name=s1-train")]


async def test_a_complete_job_whose_pods_are_gone_is_asked_about_once() -> None:
    lists = Lists()
    cache, run, evidence = world(bodies.job(**COMPLETE), lists=lists)
    for _ in range(3):
        await evidence.endings(run, cache.observe(run))
    assert len(lists.asked) == 1


async def test_what_is_known_or_settled_or_still_at_work_is_not_read() -> None:
    lists = Lists()
    settled = {"stages": [{"name": "train", "jobName": "s1-train", "state": "Succeeded"}]}
    for cache, run, evidence in (
        world(bodies.job(**COMPLETE), terminated(2), lists=lists),
        world(bodies.job(**COMPLETE), lists=lists, **settled),
        world(bodies.job(), bodies.pod(), lists=lists),
    ):
        assert not await evidence.endings(run, cache.observe(run))
    assert lists.asked == []


async def test_a_job_without_pods_is_asked_why_after_a_while_and_then_seldom() -> None:
    note = "exceeded quota: gpus"
    older = {"eventTime": "2026-01-31T12:00:01Z", "note": "something else"}
    lists = Lists(older, {"deprecatedLastTimestamp": "2026-01-31T12:00:09Z", "note": note})
    cache, run, evidence = world(bodies.job(active=0), lists=lists)
    young, old = CREATED + timedelta(seconds=1), CREATED + timedelta(seconds=10)
    assert await evidence.refusals(run, cache.observe(run), young) == ((), PATIENCE)
    refused = ((Refusal("Pod", "s1-train", note),), ASK_AGAIN)
    for now in (old, old + timedelta(seconds=1)):
        assert await evidence.refusals(run, cache.observe(run), now) == refused
    assert lists.asked == [("Event", "regarding.uid=uid-s1-train,reason=FailedCreate")]


async def test_a_job_that_has_pods_again_is_no_longer_refused() -> None:
    lists = Lists({"eventTime": "2026-01-31T12:00:01Z", "note": "no"})
    cache, run, evidence = world(bodies.job(active=0), lists=lists)
    old = CREATED + timedelta(seconds=10)
    await evidence.refusals(run, cache.observe(run), old)
    cache.upsert("Pod", bodies.pod())
    assert await evidence.refusals(run, cache.observe(run), old) == ((), None)
