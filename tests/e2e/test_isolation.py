"""What the NetworkPolicies of a run let through and what not, asked from within its pods on a real node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import make_world
from tests.e2e.knocking import a_pod, knock, listener, until_ready
from tests.e2e.world import World
from tests.kube import Kube, stage, wait_for

pytestmark = [pytest.mark.node, pytest.mark.e2e, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def world(operator: Kube, images: dict[str, str]) -> Iterator[World]:
    yield from make_world(operator, images, "walled")


@pytest.fixture(scope="module")
def elsewhere(operator: Kube, images: dict[str, str]) -> Iterator[World]:
    """Another namespace, with a listener."""
    world = World(operator, images, "elsewhere")
    meta = {"name": world.namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    world.kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    world.kube.apply(*listener(world))
    until_ready(world, "listener")
    yield world
    world.delete()


def test_curation_reaches_dns_and_its_teacher_and_nothing_else(world: World, elsewhere: World) -> None:
    thing = world.run("held", evaluate=None, gates=None, serve=None)
    name = f"listener.{elsewhere.namespace}.svc"
    thing["spec"]["models"][0]["endpoint"]["url"] = f"http://{name}:8080/v1"
    thing["spec"]["seed"] = 11  # a fingerprint of its own: nothing is taken over
    world.kube.apply(thing)
    world.until("held", "a running curation", lambda s: stage(s, "curate").get("state") == "Running")
    [pod] = world.pods("curate", "held")
    other = until_ready(elsewhere, "listener")
    found = knock(
        world,
        pod["metadata"]["name"],
        f"{name}:8080",
        f"{other}:8080",
        f"{other}:9999",
        f"teacher.{world.namespace}.svc:8080",
        "kubernetes.default.svc:443",
        f"{pod['status']['hostIP']}:10250",
        f"{pod['status']['hostIP']}:6443",
        "169.254.169.254:80",
    )
    assert [target for target, answer in found.items() if answer == "open"] == [f"{name}:8080", f"{other}:8080"]
    world.kube.must("delete", "distillrun", "held", "-n", world.namespace)


def test_ranks_reach_each_other_and_nobody_reaches_them_but_the_operator(world: World, elsewhere: World) -> None:
    world.kube.apply(a_pod(world, "stranger"), a_pod(elsewhere, "stranger"))
    thing = world.run("ranks", evaluate=None, gates=None, serve=None)
    thing["spec"]["train"] |= {"maxSteps": 5000}
    world.kube.apply(thing)
    world.until("ranks", "progress of the training", lambda s: stage(s, "train").get("progress", {}).get("done"))
    ranks = {
        pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]: pod
        for pod in world.pods("train", "ranks")
    }
    first, second = (ranks[index] for index in ("0", "1"))
    address = first["status"]["podIP"]
    ports = (f"{address}:29500", f"{address}:9400")
    inside = knock(world, second["metadata"]["name"], *ports, "teacher:8080", "kubernetes.default.svc:443")
    assert inside == {**dict.fromkeys(ports, "open"), "teacher:8080": "closed", "kubernetes.default.svc:443": "closed"}
    for place in (world, elsewhere):
        until_ready(place, "stranger")
        assert knock(place, "stranger", *ports) == dict.fromkeys(ports, "closed")


def test_a_policy_that_somebody_deletes_is_back_before_long(world: World) -> None:
    """Of the run that the test before left training."""
    before = world.kube.get("networkpolicy", "ranks-train", world.namespace)
    assert before is not None
    world.kube.must("delete", "networkpolicy", "ranks-train", "-n", world.namespace)
    made = wait_for("the policy", lambda: world.kube.get("networkpolicy", "ranks-train", world.namespace))
    assert made["spec"] == before["spec"]
    world.kube.must("delete", "distillrun", "ranks", "-n", world.namespace)
