"""What is missing is named and waited for; what is wrong fails at once with a sentence. On a real node."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import make_world
from tests.e2e.world import World
from tests.kube import Kube, condition, stage, wait_for

pytestmark = [pytest.mark.node, pytest.mark.e2e, pytest.mark.timeout(1200)]
CURATE_ONLY: dict[str, Any] = {"evaluate": None, "gates": None, "serve": None}


@pytest.fixture(scope="module")
def world(operator: Kube, images: dict[str, str]) -> Iterator[World]:
    yield from make_world(operator, images, "bad")


def curated(status: dict[str, Any]) -> dict[str, Any]:
    return condition(status, "Curated")


def resolved(status: dict[str, Any]) -> dict[str, Any]:
    return condition(status, "Resolved")


def secret(world: World, name: str, key: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": world.namespace},
        "stringData": {"apiKey": key},
    }


def with_secret(world: World, run: str, name: str) -> dict[str, Any]:
    thing = world.run(run, **CURATE_ONLY)
    thing["spec"]["models"][0]["endpoint"]["apiKeySecretRef"]["name"] = name
    return thing


def test_a_missing_secret_is_named_and_the_run_goes_on_when_it_appears(world: World) -> None:
    world.kube.apply(with_secret(world, "no-secret", "later"))
    status = world.until("no-secret", "SecretNotFound", lambda s: curated(s).get("reason") == "SecretNotFound")
    assert "Secret later" in curated(status)["message"]
    assert status["phase"] == "Pending"
    found = world.kube.get("secret", "teacher", world.namespace)
    assert found is not None
    world.kube.apply(secret(world, "later", base64.b64decode(found["data"]["apiKey"]).decode()))
    world.until("no-secret", "the curation", lambda s: stage(s, "curate")["state"] in ("Succeeded", "Reused"))
    world.kube.must("delete", "distillrun", "no-secret", "-n", world.namespace)


def test_a_key_that_the_teacher_refuses_fails_the_run_at_once_and_names_the_secret(world: World) -> None:
    thing = with_secret(world, "wrong-key", "wrong")
    thing["spec"]["curate"]["generate"]["temperature"] = "0.5"  # else the answers of the run before are taken over
    world.kube.apply(secret(world, "wrong", "not-the-key"), thing)
    failed = world.until("wrong-key", "Failed", lambda s: s.get("phase") == "Failed")
    assert curated(failed)["reason"] == "TeacherUnauthorized"
    assert "wrong" in curated(failed)["message"]
    assert "not-the-key" not in str(failed)
    assert stage(failed, "curate")["attempt"] == 1


def test_a_missing_claim_is_named_and_the_run_goes_on_when_it_appears(world: World) -> None:
    world.kube.apply(world.run("no-claim", storage={"claimName": "later"}, **CURATE_ONLY))
    status = world.until("no-claim", "ClaimNotFound", lambda s: resolved(s).get("reason") == "ClaimNotFound")
    assert "PersistentVolumeClaim later" in resolved(status)["message"]
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "later", "namespace": world.namespace},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    world.kube.apply(claim)
    # The new claim is empty, so the first stage runs and says what is not there.
    failed = world.until("no-claim", "Failed", lambda s: s.get("phase") == "Failed")
    assert "train.jsonl" in resolved(failed)["message"]
    assert "pupil" in resolved(failed)["message"]


def test_an_image_that_cannot_be_pulled_is_named(world: World) -> None:
    thing = world.run("no-image", **CURATE_ONLY)
    thing["spec"]["curate"]["pod"] = {"image": "localhost/distillrun/nowhere:1"}
    world.kube.apply(thing)
    status = world.until("no-image", "ImageNotPulled", lambda s: resolved(s).get("reason") == "ImageNotPulled")
    assert "localhost/distillrun/nowhere:1" in resolved(status)["message"]
    world.kube.must("delete", "distillrun", "no-image", "-n", world.namespace)


def test_a_disk_that_is_full_fails_the_run_with_a_sentence_and_keeps_the_answers_that_fitted(world: World) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "tiny", "namespace": world.namespace},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "memory",
            "resources": {"requests": {"storage": "8Mi"}},
        },
    }
    world.kube.apply(claim)
    wait_for("a bound claim", lambda: (world.kube.get("pvc", "tiny", world.namespace) or {})["spec"].get("volumeName"))
    questions = world.claim("tiny") / "train.jsonl"
    questions.write_bytes((world.claim() / "demo/train.jsonl").read_bytes())
    questions.chmod(0o644)
    shutil.copytree(world.claim() / "demo/pupil", world.claim("tiny") / "pupil")
    room = os.statvfs(world.claim("tiny"))
    (world.claim("tiny") / "filler").write_bytes(b"x" * (room.f_bavail * room.f_frsize - 64 * 1024))
    thing = world.run("full", storage={"claimName": "tiny"}, **CURATE_ONLY)
    thing["spec"]["curate"]["sources"][0]["uri"] = "file:///mnt/distillrun/train.jsonl"
    thing["spec"]["student"]["model"]["uri"] = "file:///mnt/distillrun/pupil"
    world.kube.apply(thing)
    failed = world.until("full", "Failed", lambda s: s.get("phase") == "Failed")
    assert curated(failed)["reason"] == "DiskFull"
    assert list(world.claim("tiny").glob("*/curate/*/.partial/answers-*.jsonl"))
