"""Runs on a real node: real pods, real DeepSpeed on two ranks, real vLLM, on the CPU."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from distillstages.demo.teacher import is_wrong
from tests.e2e.conftest import SYSTEM
from tests.e2e.knocking import a_pod, knock, until_ready
from tests.e2e.world import World, losses, steps_done
from tests.kube import stage, wait_for
from tests.recipes import TEACHER_SEED, Curated

pytestmark = [pytest.mark.node, pytest.mark.e2e, pytest.mark.timeout(1200)]


def test_an_undisturbed_run_is_ready_with_scores_of_student_and_base(calm: World, served: dict[str, Any]) -> None:
    assert served["phase"] == "Serving"
    for who in ("student", "base"):
        samples = {score["benchmark"]: score["samples"] for score in served["scores"] if score["model"] == who}
        assert samples == {"additions": 40, "stories": 20, "choices": 20}
    for score in served["scores"]:
        assert float(score["low"]) <= float(score["value"]) <= float(score["high"])
    assert [stage(served, name)["failures"] for name in ("curate", "train", "evaluate")] == [0, 0, 0]
    assert float(served["cost"]["gpuSeconds"]) > 0


def test_no_wrong_trace_reaches_the_dataset_and_every_rejected_one_is_kept_with_its_reason(
    calm: World, served: dict[str, Any]
) -> None:
    curated = Curated.of(calm.artifact(served["artifacts"]["dataset"]))
    assert len(curated.kept) + len(curated.rejected) == len(set(curated.asked)) > 900
    assert not [row["question"] for row in curated.kept if is_wrong(row["question"], TEACHER_SEED)]
    assert all(is_wrong(row["question"], TEACHER_SEED) for row in curated.rejected)
    assert {row["reason"] for row in curated.rejected} == {"WrongAnswer"}
    assert stage(served, "curate")["results"]["rejectedByReason.WrongAnswer"] == str(len(curated.rejected))


def test_the_served_student_answers_a_chat_request(calm: World, served: dict[str, Any]) -> None:
    service = calm.kube.get("service", "sky-t1-smoke-serve", calm.namespace)
    assert service is not None
    body = {"model": "sky-t1-smoke", "messages": [{"role": "user", "content": "123+456=?"}], "max_tokens": 32}
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
    target = f"sky-t1-smoke-serve.{calm.namespace}.svc:8000"
    for world, answer in ((calm, "open"), (rough, "closed")):
        world.kube.apply(a_pod(world, "client"))
        until_ready(world, "client")
        assert knock(world, "client", target) == {target: answer}


def test_every_pod_of_a_run_has_neither_credentials_nor_rights(calm: World, served: dict[str, Any]) -> None:
    for name in ("curate", "train", "evaluate", "serve"):
        for pod in calm.pods(name, "sky-t1-smoke"):
            assert not [v for v in pod["spec"]["volumes"] if "projected" in v or "secret" in v]
            assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_a_run_whose_operator_and_training_pod_are_killed_half_way_ends_with_the_same_losses(
    calm: World, served: dict[str, Any], rough: World
) -> None:
    rough.kube.apply(rough.recipe("sky-t1-smoke", "rough", gates=None, serve=None))
    kill = ("delete", "pod", "--grace-period=0", "--force", "--wait=false")
    rough.until("rough", "Curating", lambda s: s.get("phase") == "Curating")
    rough.kube.must("-n", SYSTEM, *kill, "-l", "app.kubernetes.io/component=operator")
    folder = rough.claim() / rough.namespace
    wait_for("step 45 of the training", lambda: steps_done(folder) >= 45, seconds=600, every=0.1)
    victim = next(
        pod["metadata"]["name"]
        for pod in rough.pods("train", "rough")
        if pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "1"
    )
    rough.kube.must("-n", rough.namespace, *kill, victim)
    rough.kube.must("-n", SYSTEM, *kill, "-l", "app.kubernetes.io/component=operator")
    status = rough.until("rough", "its training", lambda s: stage(s, "train").get("state") == "Succeeded", seconds=600)
    rough.kube.must("delete", "distillrun", "rough", "-n", rough.namespace, "--timeout=30s")
    train = stage(status, "train")
    assert train["attempt"] == 2
    assert train["failures"] + train["preemptions"] == 1
    resumed = int(train["results"]["resumedFromStep"])
    assert resumed >= 40
    undisturbed = losses(calm.artifact(stage(served, "train")["artifact"]))
    disturbed = losses(rough.artifact(train["artifact"]))
    assert sorted(disturbed) == sorted(undisturbed) == list(range(1, len(undisturbed) + 1))
    assert {attempt for step, (attempt, _) in disturbed.items() if step > resumed} == {2}
    for step, (_, loss) in disturbed.items():
        # The last bit of a sum depends on where memory lies, and training makes more of it with every step: 6e-7 after
        # 40 steps and 2e-5 after 75 were measured. A batch or a moment that is not the same shows at once.
        bound = 1e-5 if step <= resumed + 40 else 1e-3
        assert abs(loss - undisturbed[step][1]) < bound, f"step {step}"
    dataset = rough.artifact(status["artifacts"]["dataset"]) / "dataset/part-00000.parquet"
    other = calm.artifact(served["artifacts"]["dataset"]) / "dataset/part-00000.parquet"
    assert dataset.read_bytes() == other.read_bytes()


def test_a_run_applied_again_with_another_evaluation_evaluates_and_does_nothing_else_anew(
    calm: World, served: dict[str, Any]
) -> None:
    again = calm.recipe("sky-t1-smoke", "again", gates=None, serve=None)
    again["spec"]["evaluate"] |= {"alsoBaseModel": False}
    for benchmark in again["spec"]["evaluate"]["benchmarks"]:
        benchmark["take"] = 5
    calm.kube.apply(again)
    status = calm.until("again", "Succeeded", lambda s: s.get("phase") == "Succeeded", seconds=600)
    for name in ("curate", "train"):
        assert stage(status, name)["state"] == "Reused"
        assert stage(status, name)["reusedFrom"] == f"{calm.namespace}/sky-t1-smoke"
        assert stage(status, name)["artifact"] == stage(served, name)["artifact"]
    assert stage(status, "evaluate")["state"] == "Succeeded"
    assert [score["samples"] for score in status["scores"]] == [5, 5, 5]
    assert float(stage(status, "train")["cost"]["gpuSeconds"]) == 0
