"""The cache is compared with what the API server lists: what the watch missed is found."""

from __future__ import annotations

from typing import Any

import pytest

from distillrun.cluster.cache import Cache, Key
from distillrun.cluster.client import Client
from distillrun.cluster.metrics import Metrics
from distillrun.cluster.relist import Relist
from distillrun.cluster.resources import CONFIG_MAP, RUN
from distillrun.plan import names
from tests.kube import Kube
from tests.unit.builders import spec

pytestmark = pytest.mark.controlplane


class World:
    """A run with a ConfigMap, a cache filled by a list, and a relist whose watch tells nothing."""

    def __init__(self, client: Client, kube: Kube, namespace: str) -> None:
        self.client, self.kube, self.namespace = client, kube, namespace
        self.cache = Cache()
        self.changed: list[Key] = []
        self.metrics = Metrics(self.cache)
        self.relist = Relist(client, self.cache, self.metrics, self.changed.append, [namespace], grace=0.05)

    async def run(self, name: str = "s1") -> dict[str, Any]:
        body = {
            "apiVersion": RUN.api_version,
            "kind": RUN.kind,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec(),
        }
        return await self.client.create(RUN, self.namespace, body)

    async def config(self, run: dict[str, Any], name: str = "config", labelled: bool = True) -> dict[str, Any]:
        labels = {names.LABEL_RUN: run["metadata"]["name"], names.LABEL_RUN_UID: run["metadata"]["uid"]}
        meta = {"name": name, "namespace": self.namespace, "labels": labels if labelled else {}}
        return await self.client.create(CONFIG_MAP, self.namespace, {"metadata": meta})

    def known(self) -> set[str]:
        return {name for kind, _, name in self.cache.of_kind("ConfigMap")}

    def found(self, what: str, kind: str = "ConfigMap") -> float:
        return float(self.metrics.relist_found.labels(kind, what)._value.get())


@pytest.fixture
async def world(client: Client, api_server: Kube, namespace: str) -> World:
    made = World(client, api_server, namespace)
    await made.config(await made.run())
    await made.relist.fill()
    return made


async def test_the_first_list_knows_runs_and_labelled_children_and_nothing_else(world: World) -> None:
    run = await world.run("s2")
    await world.config(run, "foreign", labelled=False)
    fresh = Relist(world.client, world.cache, world.metrics, world.changed.append, [world.namespace])
    assert not fresh.synced
    await fresh.fill()
    assert fresh.synced
    assert world.known() == {"config"}
    assert sorted(world.cache.run_keys()) == [(world.namespace, "s1"), (world.namespace, "s2")]


async def test_a_cache_that_is_right_stays_as_it_is(world: World) -> None:
    for resource in (RUN, CONFIG_MAP):
        await world.relist.check(resource)
    assert world.changed == []
    assert set(world.relist.silent.values()) == {0}


async def test_a_vanished_object_missed_by_the_watch_is_found_by_the_relist(world: World) -> None:
    world.kube.must("delete", "configmap", "config", "-n", world.namespace)
    await world.relist.check(CONFIG_MAP)
    assert world.known() == set()
    assert world.changed == [(world.namespace, "s1")]
    assert world.found("vanished") == 1
    assert world.relist.silent["ConfigMap"] == 0  # kopf forgets deletions after a 410: no sign of a dead watch


async def test_a_run_that_vanished_unseen_is_forgotten(world: World) -> None:
    world.kube.must("delete", "dr", "s1", "-n", world.namespace)
    await world.relist.check(RUN)
    assert world.cache.run_keys() == []
    assert world.changed == [(world.namespace, "s1")]


async def test_an_object_that_the_watch_never_told_of_is_fetched_and_the_watch_called_silent(world: World) -> None:
    run = await world.run("s2")
    await world.config(run, "second")
    for resource in (RUN, CONFIG_MAP):
        await world.relist.check(resource)
    assert world.known() == {"config", "second"}
    assert world.changed == [(world.namespace, "s2"), (world.namespace, "s2")]
    assert world.relist.silent == {"DistillRun": 1, "ConfigMap": 1}


async def test_a_change_that_the_watch_never_told_of_is_fetched(world: World) -> None:
    world.kube.must("annotate", "configmap", "config", "-n", world.namespace, f"{names.ANNOTATION_APPLIED}=h2")
    await world.relist.check(CONFIG_MAP)
    run = world.cache.run((world.namespace, "s1"))
    assert run is not None
    assert world.cache.observe(run).children["ConfigMap", "config"].hash == "h2"
    assert world.found("stale") == 1


async def test_a_watch_that_is_only_slow_is_repaired_and_not_called_silent(world: World) -> None:
    run = await world.run("s2")
    await world.config(run, "second")
    heard = world.relist._behind

    def hear(listed: Any) -> Any:
        world.relist.heard("ConfigMap")
        return heard(listed)

    world.relist._behind = hear  # type: ignore[method-assign]
    await world.relist.check(CONFIG_MAP)
    assert world.known() == {"config", "second"}
    assert world.relist.silent["ConfigMap"] == 0


async def test_what_the_watch_tells_during_the_grace_is_no_finding(world: World) -> None:
    run = await world.run("s2")
    body = await world.config(run, "second")
    slept = world.relist._behind
    calls = 0

    def tell(listed: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            world.cache.upsert("ConfigMap", body)
        return slept(listed)

    world.relist._behind = tell  # type: ignore[method-assign]
    await world.relist.check(CONFIG_MAP)
    assert world.changed == []
    assert world.found("unseen") == 0
