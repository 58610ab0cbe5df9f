"""Runs on a real node: real pods, real DeepSpeed on two ranks, real vLLM, on the CPU."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pyarrow.parquet as parquet
import pytest

from distillstages.demo.teacher import is_wrong
from tests.e2e.conftest import SYSTEM
from tests.e2e.knocking import a_pod, knock, until_ready
from tests.e2e.world import TEACHER_SEED, World, losses, steps_done
from tests.kube import condition, stage, wait_for

pytestmark = [pytest.mark.node, pytest.mark.e2e, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def served(calm: World) -> dict[str, Any]:
    """The status of an undisturbed run once it is Ready."""
    calm.kube.apply(calm.run("calm"))
    return calm.until("calm", "Ready", lambda s: condition(s, "Ready").get("status") == "True", seconds=900)


def test_an_undisturbed_run_is_ready_with_scores_of_student_and_base(calm: World, served: dict[str, Any]) -> None:
    assert served["phase"] == "Serving"
    assert {(score["benchmark"], score["model"]) for score in served["scores"]} == {
        ("additions", "student"),
        ("additions", "base"),
    }
    for score in served["scores"]:
        assert score["samples"] == 40
        assert float(score["low"]) <= float(score["value"]) <= float(score["high"])
    assert [stage(served, name)["failures"] for name in ("curate", "train", "evaluate")] == [0, 0, 0]
    assert float(served["cost"]["gpuSeconds"]) > 0


def test_no_wrong_trace_reaches_the_dataset_and_every_rejected_one_is_kept_with_its_reason(
    calm: World, served: dict[str, Any]
) -> None:
    folder = calm.artifact(served["artifacts"]["dataset"])
    kept = parquet.read_table(folder / "dataset").to_pylist()
    rejected = parquet.read_table(folder / "rejected").to_pylist()
    assert len(kept) + len(rejected) == 240
    assert not [row["question"] for row in kept if is_wrong(row["question"], TEACHER_SEED)]
    assert all(is_wrong(row["question"], TEACHER_SEED) for row in rejected)
    assert {row["reason"] for row in rejected} == {"WrongAnswer"}
    assert stage(served, "curate")["results"]["rejectedByReason.WrongAnswer"] == str(len(rejected))


def test_the_served_student_answers_a_chat_request(calm: World, served: dict[str, Any]) -> None:
    service = calm.kube.get("service", "calm-serve", calm.namespace)
    assert service is not None
    body = {"model": "calm", "messages": [{"role": "user", "content": "123+456=?"}], "max_tokens": 32}
    request = urllib.request.Request(
        f"http://{service['spec']['clusterIP']}:8000/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        [choice] = json.load(answer)["choices"]
    assert choice["message"]["role"] == "assistant"


def test_the_served_student_is_reached_from_its_own_namespace_only(
    calm: World, served: dict[str, Any], rough: World
) -> None:
    target = f"calm-serve.{calm.namespace}.svc:8000"
    for world, answer in ((calm, "open"), (rough, "closed")):
        world.kube.apply(a_pod(world, "client"))
        until_ready(world, "client")
        assert knock(world, "client", target) == {target: answer}


def test_every_pod_of_a_run_has_neither_credentials_nor_rights(calm: World, served: dict[str, Any]) -> None:
    for name in ("curate", "train", "evaluate", "serve"):
        for pod in calm.pods(name, "calm"):
            assert not [v for v in pod["spec"]["volumes"] if "projected" in v or "secret" in v]
            assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_a_run_whose_operator_and_training_pod_are_killed_half_way_ends_with_the_same_losses(
    calm: World, served: dict[str, Any], rough: World
) -> None:
    rough.kube.apply(rough.run("rough", evaluate=None, gates=None, serve=None))
    kill = ("delete", "pod", "--grace-period=0", "--force", "--wait=false")
    rough.until("rough", "Curating", lambda s: s.get("phase") == "Curating")
    rough.kube.must("-n", SYSTEM, *kill, "-l", "app.kubernetes.io/component=operator")
    folder = rough.claim() / rough.namespace
    wait_for("step 25 of the training", lambda: steps_done(folder) >= 25, seconds=300, every=0.1)
    victim = next(
        pod["metadata"]["name"]
        for pod in rough.pods("train", "rough")
        if pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "1"
    )
    rough.kube.must("-n", rough.namespace, *kill, victim)
    rough.kube.must("-n", SYSTEM, *kill, "-l", "app.kubernetes.io/component=operator")
    status = rough.until("rough", "Succeeded", lambda s: s.get("phase") == "Succeeded", seconds=600)
    train = stage(status, "train")
    assert train["attempt"] == 2
    assert train["failures"] + train["preemptions"] == 1
    resumed = int(train["results"]["resumedFromStep"])
    assert resumed >= 20
    undisturbed = losses(calm.artifact(stage(served, "train")["artifact"]))
    disturbed = losses(rough.artifact(train["artifact"]))
    assert sorted(disturbed) == sorted(undisturbed) == list(range(1, 61))
    assert {attempt for step, (attempt, _) in disturbed.items() if step > resumed} == {2}
    for step, (_, loss) in disturbed.items():
        assert abs(loss - undisturbed[step][1]) < 1e-5, f"step {step}"
    dataset = rough.artifact(status["artifacts"]["dataset"]) / "dataset/part-00000.parquet"
    other = calm.artifact(served["artifacts"]["dataset"]) / "dataset/part-00000.parquet"
    assert dataset.read_bytes() == other.read_bytes()


def test_a_run_applied_again_with_another_evaluation_evaluates_and_does_nothing_else_anew(
    calm: World, served: dict[str, Any]
) -> None:
    again = calm.run("again", gates=None, serve=None)
    again["spec"]["evaluate"] |= {"alsoBaseModel": False}
    again["spec"]["evaluate"]["benchmarks"][0]["take"] = 5
    calm.kube.apply(again)
    status = calm.until("again", "Succeeded", lambda s: s.get("phase") == "Succeeded", seconds=600)
    for name in ("curate", "train"):
        assert stage(status, name)["state"] == "Reused"
        assert stage(status, name)["reusedFrom"] == f"{calm.namespace}/calm"
        assert stage(status, name)["artifact"] == stage(served, name)["artifact"]
    assert stage(status, "evaluate")["state"] == "Succeeded"
    assert [score["samples"] for score in status["scores"]] == [5]
    assert float(stage(status, "train")["cost"]["gpuSeconds"]) == 0


def test_a_suspended_run_frees_its_pods_and_goes_on_from_its_checkpoint(calm: World, served: dict[str, Any]) -> None:
    longer = calm.run("paused", evaluate=None, gates=None, serve=None)
    longer["spec"]["train"] |= {"maxSteps": 5000}
    calm.kube.apply(longer)
    calm.until("paused", "a checkpoint", lambda s: stage(s, "train").get("lastCheckpoint"), seconds=300)
    calm.kube.must(
        "-n", calm.namespace, "patch", "distillrun", "paused", "--type=merge", "-p", '{"spec":{"suspend":true}}'
    )
    status = calm.until("paused", "Suspended", lambda s: s.get("phase") == "Suspended")
    saved = int(stage(status, "train")["lastCheckpoint"]["step"])
    wait_for("its pods to be gone", lambda: not calm.pods("train", "paused"), seconds=120)
    calm.kube.must(
        "-n", calm.namespace, "patch", "distillrun", "paused", "--type=merge", "-p", '{"spec":{"suspend":false}}'
    )
    going = calm.until("paused", "progress of attempt 2", lambda s: moved(stage(s, "train"), saved), seconds=300)
    train = stage(going, "train")
    assert (train["attempt"], train["failures"], train["preemptions"]) == (2, 0, 0)
    calm.kube.must("delete", "distillrun", "paused", "-n", calm.namespace, "--timeout=30s")


def moved(train: dict[str, Any], step: int) -> bool:
    """Whether the second attempt has come past a step; one that began at zero would need minutes for that."""
    return train.get("state") == "Running" and train["attempt"] == 2 and train["progress"]["done"] > step


def test_a_run_deleted_half_way_leaves_nothing_behind_but_its_artifacts(calm: World, served: dict[str, Any]) -> None:
    longer = calm.run("doomed", evaluate=None, gates=None, serve=None)
    longer["spec"]["train"] |= {"maxSteps": 5000}
    calm.kube.apply(longer)
    calm.until("doomed", "running training", lambda s: stage(s, "train").get("state") == "Running")
    calm.kube.must("delete", "distillrun", "doomed", "-n", calm.namespace, "--timeout=30s")

    def left() -> str:
        kinds = "jobs,pods,services,deployments,configmaps,persistentvolumeclaims"
        return calm.kube.must("get", kinds, "-n", calm.namespace, "-l", "distillrun.dev/run=doomed", "-o", "name")

    wait_for("everything to be gone", lambda: not left().strip(), seconds=120)
    assert (calm.claim() / calm.namespace / "curate").is_dir()
