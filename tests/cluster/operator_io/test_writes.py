"""What the operator writes to a real API server: once, only its own, and never over somebody else's change."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from distillrun.cluster import project
from distillrun.cluster.apply import Applier, RunGone, StaleRun
from distillrun.cluster.cache import Cache
from distillrun.cluster.client import Client
from distillrun.cluster.errors import ApiError
from distillrun.cluster.events import Recorder
from distillrun.cluster.evidence import Evidence
from distillrun.cluster.resources import CONFIG_MAP, EVENT, JOB, NETWORK_POLICY, RUN, SERVICE
from distillrun.plan import names
from distillrun.plan.model import Conflict, Decision, Event, Observed, Ref, Refusal, Run, Settings, Want
from distillrun.reconcile import Reconciler
from tests.kube import Kube
from tests.unit.builders import SETTINGS, spec

pytestmark = pytest.mark.controlplane

Json = dict[str, Any]


def child(run: Run, kind: str, name: str, **rest: Any) -> Json:
    """A child as the builder makes it: labels, owner, hash."""
    versions = {"Job": "batch/v1", "NetworkPolicy": "networking.k8s.io/v1"}
    return {
        "apiVersion": versions.get(kind, "v1"),
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": run.namespace,
            "labels": {
                names.LABEL_RUN: run.name,
                names.LABEL_RUN_UID: run.uid,
                names.LABEL_MANAGED_BY: names.MANAGER,
            },
            "annotations": {names.ANNOTATION_APPLIED: str(rest.pop("hash", "h1"))},
            "ownerReferences": [
                {
                    "apiVersion": RUN.api_version,
                    "kind": RUN.kind,
                    "name": run.name,
                    "uid": run.uid,
                    "controller": True,
                }
            ],
        },
        **rest,
    }


def service(run: Run, port: int = 80, **rest: Any) -> Json:
    ports = [{"name": "http", "port": port, "targetPort": port, "protocol": "TCP"}]
    return child(run, "Service", "svc", spec={"selector": {"a": "b"}, "ports": ports}, **rest)


def job(run: Run, name: str = "job") -> Json:
    container = {"name": "stage", "image": "registry.test/x:1"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return child(run, "Job", name, spec={"suspend": True, "template": template})


class World:
    """A run on the API server, a cache that knows it, and an applier with a count of its requests."""

    def __init__(self, client: Client, kube: Kube, run: Run, cache: Cache) -> None:
        self.client, self.kube, self.run, self.cache = client, kube, run, cache
        self.applier = Applier(client, cache)
        self.requests: list[tuple[str, str, int]] = []
        client.observe = lambda *seen: self.requests.append(seen)

    async def get(self, resource: Any, name: str) -> Json:
        return await self.client.get(resource, self.run.namespace, name)

    def reconciler(self, plan: Callable[[Run, Observed, datetime, Settings], Decision], build: Any) -> Reconciler:
        evidence, recorder = Evidence(self.client, self.cache), Recorder(self.client, "test")
        return Reconciler(self.cache, self.applier, evidence, recorder, SETTINGS, plan=plan, build=build)


@pytest.fixture
async def world(client: Client, api_server: Kube, namespace: str) -> World:
    body = {
        "apiVersion": RUN.api_version,
        "kind": RUN.kind,
        "metadata": {"name": "s1", "namespace": namespace},
        "spec": spec(),
    }
    cache = Cache()
    created = await client.create(RUN, namespace, body)
    cache.upsert(RUN.kind, created)
    return World(client, api_server, project.run(created), cache)


async def test_an_object_that_is_already_ours_is_made_only_once(world: World) -> None:
    want = Want("ConfigMap", "config", "config")
    body = child(world.run, "ConfigMap", "config", data={"a": "1"})
    assert not world.applier.has(world.run, want)
    assert await world.applier.ensure(world.run, body, immutable=True) is None
    assert world.applier.has(world.run, want)
    assert await world.applier.ensure(world.run, body, immutable=True) is None
    assert world.requests == [("create", "ConfigMap", 201), ("create", "ConfigMap", 409), ("get", "ConfigMap", 200)]


async def test_an_operator_that_lost_its_memory_finds_its_own_job_and_does_not_touch_it(world: World) -> None:
    await world.applier.ensure(world.run, job(world.run), immutable=True)
    world.kube.must("patch", "job", "job", "-n", world.run.namespace, "-p", '{"metadata":{"labels":{"kueue":"x"}}}')
    before = await world.get(JOB, "job")
    applier = Applier(world.client, Cache())
    assert await applier.ensure(world.run, job(world.run), immutable=True) is None
    assert await world.get(JOB, "job") == before


@pytest.mark.parametrize("kind", ["ConfigMap", "Service"])
async def test_a_name_conflict_with_a_foreign_object_is_reported_and_the_object_left_alone(
    world: World, kind: str
) -> None:
    ours = service(world.run) if kind == "Service" else child(world.run, "ConfigMap", "svc", data={"a": "ours"})
    foreign = {**ours, "metadata": {"name": "svc", "namespace": world.run.namespace}}
    resource = SERVICE if kind == "Service" else CONFIG_MAP
    before = await world.client.create(resource, world.run.namespace, foreign)
    met = await world.applier.ensure(world.run, ours, immutable=kind == "ConfigMap")
    assert met == Conflict(kind, "svc", "nobody: it has no controller")
    assert await world.get(resource, "svc") == before


async def test_a_child_of_an_earlier_run_of_that_name_is_foreign_too(world: World) -> None:
    earlier = Run(**{**world.run.__dict__, "uid": str(uuid.uuid4())})
    kept = child(earlier, "ConfigMap", "config")
    kept["metadata"]["finalizers"] = ["tests.distillrun.dev/kept"]  # or the garbage collector may be first
    await world.client.create(CONFIG_MAP, world.run.namespace, kept)
    met = await world.applier.ensure(world.run, child(world.run, "ConfigMap", "config"), immutable=True)
    free = ("--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    world.kube.must("patch", "configmap", "config", "-n", world.run.namespace, *free)
    assert isinstance(met, Conflict)
    assert met.owner == f"an earlier run s1 (UID {earlier.uid})"


async def test_a_service_is_applied_only_when_what_we_want_of_it_changes(world: World) -> None:
    for _ in range(3):
        assert await world.applier.ensure(world.run, service(world.run), immutable=False) is None
    assert [verb for verb, _, _ in world.requests] == ["get", "apply"]
    world.requests.clear()
    changed = service(world.run, port=81, hash="h2")
    assert await world.applier.ensure(world.run, changed, immutable=False) is None
    assert [verb for verb, _, _ in world.requests] == ["get", "apply"]
    assert (await world.get(SERVICE, "svc"))["spec"]["ports"][0]["port"] == 81


async def test_what_others_write_into_our_service_stays(world: World) -> None:
    await world.applier.ensure(world.run, service(world.run), immutable=False)
    world.kube.must("annotate", "service", "svc", "-n", world.run.namespace, "theirs=kept")
    await world.applier.ensure(world.run, service(world.run, port=81, hash="h2"), immutable=False)
    assert (await world.get(SERVICE, "svc"))["metadata"]["annotations"]["theirs"] == "kept"


async def test_a_claim_that_outlived_an_earlier_run_is_taken_over_by_the_next_of_that_name(world: World) -> None:
    def claim(run: Run) -> Json:
        resources = {"requests": {"storage": "1Gi"}}
        body = child(run, "PersistentVolumeClaim", "c", spec={"accessModes": ["ReadWriteOnce"], "resources": resources})
        del body["metadata"]["ownerReferences"]
        return body

    earlier = Run(**{**world.run.__dict__, "uid": str(uuid.uuid4())})
    assert await world.applier.ensure(earlier, claim(earlier), immutable=False) is None
    assert await world.applier.ensure(world.run, claim(world.run), immutable=False) is None
    assert ("PersistentVolumeClaim", "c") in world.cache.observe(world.run).children


async def test_a_refused_create_is_told_in_the_servers_words(world: World) -> None:
    quota = {"hard": {"count/jobs.batch": "0"}}
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": quota}
    world.kube.must("apply", "-n", world.run.namespace, "-f", "-", stdin=str(body).replace("'", '"'))
    met: Any = None
    for _ in range(50):  # until the quota is in force
        met = await world.applier.ensure(world.run, job(world.run, f"job-{uuid.uuid4().hex[:4]}"), immutable=True)
        if met is not None:
            break
    assert isinstance(met, Refusal)
    assert "exceeded quota: q" in met.message


async def test_an_object_that_breaks_a_rule_is_a_refusal_that_names_the_field(world: World) -> None:
    met = await world.applier.ensure(world.run, service(world.run, port=99999), immutable=False)
    assert isinstance(met, Refusal)
    assert "spec.ports[0].port" in met.message


async def test_a_namespace_that_is_going_ends_the_pass_and_nothing_else(world: World) -> None:
    world.kube.must(
        "patch", "ns", world.run.namespace, "-p", '{"metadata":{"finalizers":["test.distillrun.dev/hold"]}}'
    )
    world.kube.must("delete", "ns", world.run.namespace, "--wait=false")
    try:
        with pytest.raises(RunGone):
            await world.applier.ensure(world.run, job(world.run), immutable=True)
    finally:
        world.kube.must("patch", "ns", world.run.namespace, "-p", '{"metadata":{"finalizers":null}}')


async def test_a_status_is_written_whole_once_and_what_it_no_longer_says_goes(world: World) -> None:
    served = {"url": "http://s1", "model": "s1"}
    run = await world.applier.status(world.run, {"phase": "Serving", "endpoint": served, "observedGeneration": 1})
    run = await world.applier.status(run, {"phase": "Serving", "endpoint": served, "observedGeneration": 1})
    assert (await world.get(RUN, "s1"))["status"]["endpoint"] == served
    run = await world.applier.status(run, {"phase": "Failed", "observedGeneration": 1, "endpoint": None})
    stored = (await world.get(RUN, "s1"))["status"]
    assert (stored["phase"], "endpoint" in stored) == ("Failed", False)
    assert [verb for verb, _, _ in world.requests if verb == "patch"] == ["patch", "patch"]
    assert world.cache.run((run.namespace, "s1")) == run


async def test_a_stale_status_is_not_written(world: World) -> None:
    world.kube.must("annotate", "dr", "s1", "-n", world.run.namespace, "somebody=else")
    with pytest.raises(StaleRun):
        await world.applier.status(world.run, {"phase": "Failed"})
    assert (await world.get(RUN, "s1"))["status"].get("phase") != "Failed"


async def test_a_pass_with_a_stale_run_plans_again_with_the_fresh_one(world: World) -> None:
    def plan(run: Run, observed: Observed, now: datetime, settings: Settings) -> Decision:
        # A decision that depends on what changed: the number of retries asked for.
        return Decision(status={"message": f"planned for generation {run.generation}"})

    world.kube.must("patch", "dr", "s1", "-n", world.run.namespace, "--type=merge", "-p", '{"spec":{"maxRetries":5}}')
    await world.reconciler(plan, None)((world.run.namespace, "s1"))
    stored = await world.get(RUN, "s1")
    assert stored["metadata"]["generation"] == 2
    assert stored["status"]["message"] == "planned for generation 2"


async def test_a_status_field_that_the_definition_does_not_know_is_not_written_for_ever(world: World) -> None:
    def plan(run: Run, observed: Observed, now: datetime, settings: Settings) -> Decision:
        return Decision(status={"phase": "Curating", "inventedField": 1})

    reconcile = world.reconciler(plan, None)
    for _ in range(3):
        await reconcile((world.run.namespace, "s1"))
    assert [verb for verb, _, _ in world.requests].count("patch") == 1


async def test_a_conflict_is_in_the_plan_before_any_status_is_written(world: World) -> None:
    await world.client.create(
        CONFIG_MAP, world.run.namespace, {"metadata": {"name": "config", "namespace": world.run.namespace}}
    )
    want = Want("ConfigMap", "config", "config")

    def plan(run: Run, observed: Observed, now: datetime, settings: Settings) -> Decision:
        words = "; ".join(conflict.owner for conflict in observed.conflicts)
        return Decision(ensure=(want,), status={"message": words or "all is well"}, requeue_after=30)

    def build(want: Want, run: Run, settings: Settings) -> Json:
        return child(run, "ConfigMap", want.name)

    reconcile = world.reconciler(plan, build)
    key = (world.run.namespace, "s1")
    assert await reconcile(key) == 30
    assert (await world.get(RUN, "s1"))["status"]["message"] == "nobody: it has no controller"
    assert [verb for verb, kind, _ in world.requests if (verb, kind) == ("patch", RUN.kind)] == ["patch"]
    world.kube.must("delete", "configmap", "config", "-n", world.run.namespace)
    await reconcile(key)
    assert (await world.get(RUN, "s1"))["status"]["message"] == "all is well"
    assert project.controller(await world.get(CONFIG_MAP, "config"))["uid"] == world.run.uid


async def test_a_successor_of_what_was_to_be_deleted_is_left_alone(world: World) -> None:
    await world.applier.ensure(world.run, job(world.run), immutable=True)
    await world.applier.delete(world.run, Ref("Job", "job", str(uuid.uuid4())))
    assert (await world.get(JOB, "job"))["metadata"].get("deletionTimestamp") is None
    uid = (await world.get(JOB, "job"))["metadata"]["uid"]
    await world.applier.delete(world.run, Ref("Job", "job", uid))
    with pytest.raises(ApiError) as caught:
        await world.get(JOB, "job")
    assert caught.value.not_found


async def test_an_event_is_posted_once_even_by_an_operator_that_restarts(world: World) -> None:
    event = Event("Warning", "StageFailed", "curate failed")
    for recorder in (Recorder(world.client, "one"), Recorder(world.client, "two")):
        await recorder.post(world.run, event)
        await recorder.post(world.run, event)
    pages = [page async for page in world.client.list(EVENT, world.run.namespace)]
    mine = [item for page in pages for item in page.items if item["regarding"].get("uid") == world.run.uid]
    assert [(item["reason"], item["note"], item["type"]) for item in mine] == [
        ("StageFailed", "curate failed", "Warning")
    ]
    assert "StageFailed" in world.kube.must("describe", "dr", "s1", "-n", world.run.namespace)


async def test_events_that_cannot_be_posted_do_not_fail_a_pass(world: World) -> None:
    gone = Run(**{**world.run.__dict__, "namespace": "no-such-namespace"})
    await Recorder(world.client, "one").post(gone, Event("Normal", "R", "m"))


def policy(run: Run, port: int, **rest: Any) -> Json:
    egress = [{"ports": [{"port": port}]}]
    return child(run, "NetworkPolicy", "isolation", spec={"podSelector": {}, "egress": egress}, **rest)


async def test_a_new_network_policy_is_one_request_and_a_changed_one_replaces_all_rules(world: World) -> None:
    assert await world.applier.ensure(world.run, policy(world.run, 53), immutable=False) is None
    assert world.requests == [("create", "NetworkPolicy", 201)]
    assert await world.applier.ensure(world.run, policy(world.run, 53), immutable=False) is None
    assert len(world.requests) == 1
    assert await world.applier.ensure(world.run, policy(world.run, 443, hash="h2"), immutable=False) is None
    assert (await world.get(NETWORK_POLICY, "isolation"))["spec"]["egress"] == [
        {"ports": [{"port": 443, "protocol": "TCP"}]}
    ]


async def test_a_network_policy_that_a_forgetful_operator_finds_is_brought_up_to_date(world: World) -> None:
    await world.applier.ensure(world.run, policy(world.run, 53), immutable=False)
    applier = Applier(world.client, Cache())
    for _ in range(2):  # the first finds it, the second, with what the first has learned, applies
        assert await applier.ensure(world.run, policy(world.run, 443, hash="h2"), immutable=False) is None
    assert (await world.get(NETWORK_POLICY, "isolation"))["spec"]["egress"][0]["ports"][0]["port"] == 443
