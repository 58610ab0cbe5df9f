"""The machine's one real node, our images on it, and the operator installed by the kustomize manifests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import CACHE
from tests.e2e.knocking import listener, until_ready
from tests.e2e.world import World
from tests.kube import ROOT, Kube, condition, localkube

SYSTEM = "distillrun-system"


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """References of our images by name, built if they are not."""
    command = [sys.executable, str(ROOT / "hack/images/build.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="package")
def node(images: dict[str, str]) -> Iterator[Kube]:
    """The node cluster with our images. One that runs already is used and left running."""
    was_up = subprocess.run(
        ["python3", str(ROOT / "hack/localkube"), "kubeconfig"], capture_output=True, text=True, check=False
    ).stdout.strip()
    kube = Kube(localkube("up"), str(CACHE / "bin/kubectl"))
    build = [sys.executable, str(ROOT / "hack/images/build.py"), "--layout"]
    layout = subprocess.run(build, capture_output=True, text=True, check=True).stdout.strip()
    localkube("load", "--oci-layout", layout)
    yield kube
    if not was_up:
        localkube("down")


@pytest.fixture(scope="package")
def operator(node: Kube, images: dict[str, str]) -> Iterator[Kube]:
    """The operator as the kustomize manifests install it, with our images."""
    objects = [thing for thing in yaml.safe_load_all(node.must("kustomize", str(ROOT / "manifests"))) if thing]
    for thing in objects:
        if thing["kind"] == "Deployment":
            container = thing["spec"]["template"]["spec"]["containers"][0]
            container["image"] = images["operator"]
            for variable in container["env"]:
                if variable["name"].startswith("DISTILLRUN_IMAGE_") and not variable["name"].endswith("POLICY"):
                    variable["value"] = images[variable["name"].removeprefix("DISTILLRUN_IMAGE_").lower()]
    objects.sort(key=lambda thing: thing["kind"] != "Namespace")
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    node.must("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
    node.must("-n", SYSTEM, "rollout", "status", "deployment/distillrun-operator", "--timeout=120s")
    yield node
    print(node.kubectl("-n", SYSTEM, "logs", "deployment/distillrun-operator", "--tail=60").stdout)
    node.kubectl("delete", "namespace", SYSTEM, "--timeout=120s")


def make_world(kube: Kube, images: dict[str, str], name: str) -> Iterator[World]:
    """A seeded world, gone after the test."""
    world = World(kube, images, name)
    world.create()
    try:
        world.wait_until_seeded()
        yield world
    finally:
        world.delete()


@pytest.fixture(scope="package")
def calm(operator: Kube, images: dict[str, str]) -> Iterator[World]:
    """A world in which nothing goes wrong."""
    yield from make_world(operator, images, "calm")


@pytest.fixture(scope="package")
def served(calm: World) -> dict[str, Any]:
    """The status of an undisturbed run once it is Ready: Sky-T1's small recipe as it is shipped."""
    calm.kube.apply(calm.recipe("sky-t1-smoke"))
    return calm.until("sky-t1-smoke", "Ready", lambda s: condition(s, "Ready").get("status") == "True", seconds=900)


@pytest.fixture(scope="module")
def rough(operator: Kube, images: dict[str, str]) -> Iterator[World]:
    """A world like the calm one, in which things get killed."""
    yield from make_world(operator, images, "rough")


@pytest.fixture(scope="package")
def elsewhere(operator: Kube, images: dict[str, str]) -> Iterator[World]:
    """Another namespace, with a listener."""
    world = World(operator, images, "elsewhere")
    meta = {"name": world.namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    world.kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    world.kube.apply(*listener(world))
    until_ready(world, "listener")
    yield world
    world.delete()
