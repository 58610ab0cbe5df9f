"""The real operator on a real API server, from apply to Ready; only the kubelet is pretended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.pretend_kubelet import PretendKubelet
from tests.cluster.test_api_rules import a_run, with_field
from tests.kube import ROOT, Kube, condition, stage, wait_for

pytestmark = pytest.mark.controlplane

SCORE = {"benchmark": "additions", "metric": "accuracy", "low": 0.95, "high": 1.0, "n": 200}
SCORES = {"scores": [{**SCORE, "model": "student", "value": 0.98}, {**SCORE, "model": "base", "value": 0.0}]}


class OperatorProcess:
    """`python -m distillrun operator` for one namespace, with a lease of its own."""

    def __init__(self, kube: Kube, namespace: str, log: Path) -> None:
        self.log = log
        self.command = [sys.executable, "-m", "distillrun", "operator", "--port", "0", "--namespaces", namespace]
        self.env = {
            **os.environ,
            "KUBECONFIG": kube.kubeconfig,
            "PYTHONPATH": str(ROOT / "operator"),
            "DISTILLRUN_LEASE_NAMESPACE": namespace,
            "DISTILLRUN_GPU_HOUR_PRICE": "3",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(self.command, env=self.env, stdout=out, stderr=out)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)


@pytest.fixture
def operator(api_server: Kube, namespace: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    process = OperatorProcess(api_server, namespace, tmp_path / "operator.log")
    process.start()
    yield process
    process.stop()
    print(process.log.read_text()[-5000:])


@pytest.fixture
def kubelet(api_server: Kube, namespace: str) -> PretendKubelet:
    return PretendKubelet(api_server, namespace)


def until(kube: Kube, namespace: str, what: str, check: Any, name: str = "s1") -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        status = kube.status(name, namespace)
        return status if check(status) else None

    found: dict[str, Any] = wait_for(what, look)
    return found


def test_a_run_goes_from_curation_to_ready(
    api_server: Kube, namespace: str, operator: OperatorProcess, kubelet: PretendKubelet
) -> None:
    api_server.apply(a_run(namespace))
    kubelet.start("curate")
    until(api_server, namespace, "Curating", lambda s: s["phase"] == "Curating")
    kubelet.succeed("curate", accepted=9, rejected=1)
    kubelet.succeed("train", count=2, loss=0.1)
    kubelet.succeed("evaluate", **SCORES)
    status = until(api_server, namespace, "the gates' verdict", lambda s: condition(s, "GatesPassed"))
    assert condition(status, "GatesPassed")["status"] == "True"
    assert condition(status, "Ready")["status"] == "False"
    assert status["score"] == "98.0% additions"
    assert stage(status, "curate")["results"] == {"accepted": "9", "rejected": "1"}
    kubelet.start("serve")
    status = until(api_server, namespace, "Ready", lambda s: condition(s, "Ready").get("status") == "True")
    assert status["phase"] == "Serving"
    assert status["endpoint"]["url"] == f"http://s1-serve.{namespace}.svc:8000/v1"
    [service] = [s for s in api_server.list("services", namespace) if s["metadata"]["name"] == "s1-serve"]
    assert service["spec"]["ports"][0]["port"] == 8000


def test_code_is_judged_by_a_sandbox_that_is_there_before_curations_job_and_gone_after_it(
    api_server: Kube, namespace: str, operator: OperatorProcess, kubelet: PretendKubelet
) -> None:
    api_server.apply(with_field(a_run(namespace), "curate.sources.0.fields", {"layout": "CodeTests"}))
    kubelet.pods("sandbox", attempt=None)
    # There is no node here: that is what the sandbox's pod waits for.
    said = until(api_server, namespace, "waiting", lambda s: condition(s, "Curated").get("reason") == "Unschedulable")
    assert "s1-sandbox" in condition(said, "Curated")["message"]
    assert api_server.list("jobs", namespace, "distillrun.dev/stage=curate") == []
    assert api_server.get("networkpolicy", "s1-sandbox", namespace) is not None
    kubelet.start("sandbox", attempt=None)
    [pod] = kubelet.pods("curate")
    [config] = [volume["configMap"]["name"] for volume in pod["spec"]["volumes"] if volume["name"] == "config"]
    written = api_server.get("configmap", config, namespace)
    assert written is not None
    assert f"http://s1-sandbox.{namespace}.svc:8000" in written["data"]["stage.yaml"]
    kubelet.succeed("curate", accepted=9)

    def left() -> str:
        chosen = "distillrun.dev/stage=sandbox"
        return api_server.must("get", "deployments,services,pods", "-n", namespace, "-l", chosen, "-o", "name")

    wait_for("the sandbox to be gone", lambda: not left())
    assert stage(api_server.status("s1", namespace), "curate")["state"] == "Succeeded"


def test_a_teacher_that_the_run_serves_itself_answers_before_curations_job_is_made_and_is_gone_after_it(
    api_server: Kube, namespace: str, operator: OperatorProcess, kubelet: PretendKubelet
) -> None:
    served = [{"name": "big", "server": {"model": {"uri": "hf://a/b"}, "replicas": 2, "engine": {"tensorParallel": 4}}}]
    api_server.apply(a_run(namespace, models=served, teacher="big"))
    kubelet.start("curate", attempt=0)
    assert api_server.list("pods", namespace, "distillrun.dev/stage=model-big") == []
    kubelet.end("curate", attempt=0, outcome="Absent")
    kubelet.start("model-big", attempt=None, count=2)
    [pod] = kubelet.pods("curate")
    [config] = [volume["configMap"]["name"] for volume in pod["spec"]["volumes"] if volume["name"] == "config"]
    written = api_server.get("configmap", config, namespace)
    assert written is not None
    [service] = api_server.list("services", namespace, "distillrun.dev/stage=model-big")
    assert f"http://{service['metadata']['name']}.{namespace}.svc:8000/v1" in written["data"]["stage.yaml"]
    kubelet.succeed("curate", accepted=9)

    def left() -> str:
        chosen = "distillrun.dev/stage=model-big"
        return api_server.must("get", "deployments,services,pods", "-n", namespace, "-l", chosen, "-o", "name")

    wait_for("the servers to be gone", lambda: not left())
    status = until(api_server, namespace, "the bill", lambda s: "servers" not in stage(s, "curate").get("cost", {}))
    assert float(stage(status, "curate")["cost"]["gpuSeconds"]) > 0


def test_an_operator_killed_after_every_stage_leaves_a_run_that_its_successor_finishes(
    api_server: Kube, namespace: str, operator: OperatorProcess, kubelet: PretendKubelet
) -> None:
    api_server.apply(a_run(namespace))
    kubelet.start("curate")
    until(api_server, namespace, "Curating", lambda s: s["phase"] == "Curating")
    operator.kill()
    kubelet.end("curate", outcome="Succeeded", artifact="file:///mnt/distillrun/x/", numbers={"accepted": 9})
    operator.start()
    kubelet.start("train", count=2)
    until(api_server, namespace, "Training", lambda s: stage(s, "train").get("state") == "Running")
    operator.kill()
    kubelet.end("train", count=2, outcome="Succeeded", artifact="file:///mnt/distillrun/y/", numbers={})
    operator.start()
    kubelet.succeed("evaluate", **SCORES)
    until(api_server, namespace, "Serving", lambda s: s["phase"] == "Serving")
    jobs = api_server.list("jobs", namespace)
    assert sorted(job["metadata"]["labels"]["distillrun.dev/stage"] for job in jobs) == [
        "curate",
        "evaluate",
        "resolve",
        "train",
    ]


def test_a_lost_rank_is_followed_by_a_second_attempt_and_the_first_job_goes(
    api_server: Kube, namespace: str, operator: OperatorProcess, kubelet: PretendKubelet
) -> None:
    api_server.apply(a_run(namespace))
    kubelet.succeed("curate")
    kubelet.start("train", count=2)
    until(api_server, namespace, "Training", lambda s: stage(s, "train").get("state") == "Running")
    kubelet.end("train", code=70, count=2, only=1, outcome="Failed", reason="Fault", message="boom")
    kubelet.start("train", attempt=2, count=2)
    status = until(api_server, namespace, "attempt 2", lambda s: stage(s, "train").get("state") == "Running")
    assert stage(status, "train")["failures"] == 1
    jobs = [j for j in api_server.list("jobs", namespace) if j["metadata"]["labels"]["distillrun.dev/stage"] == "train"]
    assert [job["metadata"]["labels"]["distillrun.dev/attempt"] for job in jobs] == ["2"]


def test_a_foreign_object_with_a_childs_name_is_reported_left_alone_and_waited_for(
    api_server: Kube, namespace: str, operator: OperatorProcess, kubelet: PretendKubelet
) -> None:
    api_server.apply(a_run(namespace))
    name = kubelet.pods("curate")[0]["metadata"]["labels"]["batch.kubernetes.io/job-name"]
    operator.stop()
    api_server.must("delete", "distillrun", "s1", "-n", namespace)
    wait_for("the children to go", lambda: api_server.get("configmap", name, namespace) is None)
    foreign = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}}
    api_server.apply({**foreign, "data": {"mine": "yes"}})
    operator.start()
    api_server.apply(a_run(namespace))

    def conflict(status: dict[str, Any]) -> bool:
        kubelet.resolve()
        return bool(condition(status, "Curated").get("reason") == "NameConflict")

    status = until(api_server, namespace, "NameConflict", conflict)
    assert f"ConfigMap {name}" in condition(status, "Curated")["message"]
    kept = api_server.get("configmap", name, namespace)
    assert kept is not None
    assert kept["data"] == {"mine": "yes"}
    api_server.must("delete", "configmap", name, "-n", namespace)
    until(api_server, namespace, "the end of it", lambda s: condition(s, "Curated")["reason"] != "NameConflict")
    assert api_server.get("job", name, namespace) is not None


@pytest.mark.parametrize(
    ("reason", "message", "expected", "words"),
    [
        ("CreateContainerConfigError", 'secret "teacher" not found', "SecretNotFound", "Secret teacher"),
        ("ImagePullBackOff", 'Back-off pulling image "x/y:1"', "ImageNotPulled", "x/y:1"),
    ],
)
def test_what_a_pod_waits_for_is_in_a_condition_until_it_is_there(
    api_server: Kube,
    namespace: str,
    operator: OperatorProcess,
    kubelet: PretendKubelet,
    reason: str,
    message: str,
    expected: str,
    words: str,
) -> None:
    api_server.apply(a_run(namespace))
    kubelet.wait("curate", reason, message)
    status = until(api_server, namespace, expected, lambda s: condition(s, "Curated").get("reason") == expected)
    assert words in condition(status, "Curated")["message"]
    assert status["phase"] == "Pending"
    kubelet.start("curate")
    until(api_server, namespace, "Curating", lambda s: s["phase"] == "Curating")


def test_a_run_edited_before_it_runs_is_made_anew_and_one_edited_later_is_refused(
    api_server: Kube, namespace: str, operator: OperatorProcess, kubelet: PretendKubelet
) -> None:
    api_server.apply(a_run(namespace))
    first = kubelet.pods("curate")[0]["metadata"]["labels"]["batch.kubernetes.io/job-name"]
    edited = with_field(a_run(namespace), "curate.sources.0.uri", "file:///mnt/distillrun/other.jsonl")
    api_server.apply(edited)

    def gone() -> bool:
        kubelet.resolve()
        return api_server.get("job", first, namespace) is None

    wait_for("the first Job to go", gone)
    kubelet.start("curate", attempt=2)
    until(api_server, namespace, "Curating", lambda s: s["phase"] == "Curating")
    assert "cannot change any more" in api_server.refusal(a_run(namespace))


def test_a_run_deleted_half_way_leaves_nothing_behind_but_its_claim(
    api_server: Kube, namespace: str, operator: OperatorProcess, kubelet: PretendKubelet
) -> None:
    storage = {"claimTemplate": {"size": "1Gi", "accessModes": ["ReadWriteMany"]}}
    api_server.apply(a_run(namespace, storage=storage))
    kubelet.succeed("curate")
    kubelet.start("train", count=2)
    until(api_server, namespace, "Training", lambda s: stage(s, "train").get("state") == "Running")
    api_server.must("delete", "distillrun", "s1", "-n", namespace)

    def left() -> list[str]:
        kinds = "jobs,pods,services,deployments,configmaps,persistentvolumeclaims"
        names = api_server.must("get", kinds, "-n", namespace, "-l", "distillrun.dev/run=s1", "-o", "name").split()
        return [name for name in names if name != "persistentvolumeclaim/s1-artifacts"]

    wait_for("everything to be gone", lambda: not left())
    assert api_server.get("persistentvolumeclaim", "s1-artifacts", namespace) is not None


def test_runs_with_63_characters_and_with_dots_in_their_names_get_their_pods(
    api_server: Kube, namespace: str, operator: OperatorProcess, kubelet: PretendKubelet
) -> None:
    names = ["a" * 63, "2.5-qwen.s1"]
    api_server.apply(*(a_run(namespace, name=name) for name in names))
    pods = kubelet.pods("curate", count=2)
    assert {pod["metadata"]["labels"]["distillrun.dev/run"] for pod in pods} == set(names)
