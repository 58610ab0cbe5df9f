"""One long training on a real node: who reaches its ranks, and what a suspension and a deletion leave of it.

The tests are in the order in which they use it: the last one deletes it.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.knocking import a_pod, knock, until_ready
from tests.e2e.world import World, losses
from tests.kube import stage, wait_for

pytestmark = [pytest.mark.node, pytest.mark.e2e, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def training(calm: World, served: dict[str, Any]) -> str:
    """The name of a run that trains for longer than anybody waits, on the undisturbed run's dataset."""
    longer = calm.recipe("sky-t1-smoke", "long", gates=None, serve=None)
    del longer["spec"]["train"]["epochs"]
    longer["spec"]["train"] |= {"maxSteps": 5000}
    calm.kube.apply(longer)
    calm.until("long", "progress of its training", lambda s: stage(s, "train").get("progress", {}).get("done"), 600)
    return "long"


def test_ranks_reach_each_other_and_nobody_reaches_them_but_the_operator(
    calm: World, elsewhere: World, training: str
) -> None:
    calm.kube.apply(a_pod(calm, "stranger"), a_pod(elsewhere, "stranger"))
    ranks = {
        pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]: pod
        for pod in calm.pods("train", training)
    }
    first, second = (ranks[index] for index in ("0", "1"))
    address = first["status"]["podIP"]
    ports = (f"{address}:29500", f"{address}:9400")
    inside = knock(calm, second["metadata"]["name"], *ports, "teacher:8080", "kubernetes.default.svc:443")
    assert inside == {**dict.fromkeys(ports, "open"), "teacher:8080": "closed", "kubernetes.default.svc:443": "closed"}
    for place in (calm, elsewhere):
        until_ready(place, "stranger")
        assert knock(place, "stranger", *ports) == dict.fromkeys(ports, "closed")


def test_a_policy_that_somebody_deletes_is_back_before_long(calm: World, training: str) -> None:
    name = f"{training}-train"
    before = calm.kube.get("networkpolicy", name, calm.namespace)
    assert before is not None
    calm.kube.must("delete", "networkpolicy", name, "-n", calm.namespace)
    made = wait_for("the policy", lambda: calm.kube.get("networkpolicy", name, calm.namespace))
    assert made["spec"] == before["spec"]


def test_a_suspended_run_frees_its_pods_and_goes_on_from_its_checkpoint(calm: World, training: str) -> None:
    def suspend(value: str) -> None:
        patch = f'{{"spec":{{"suspend":{value}}}}}'
        calm.kube.must("-n", calm.namespace, "patch", "distillrun", training, "--type=merge", "-p", patch)

    calm.until(training, "a checkpoint", lambda s: stage(s, "train").get("lastCheckpoint"), seconds=300)
    suspend("true")
    status = calm.until(training, "Suspended", lambda s: s.get("phase") == "Suspended")
    saved = int(stage(status, "train")["lastCheckpoint"]["step"])
    wait_for("its pods to be gone", lambda: not calm.pods("train", training), seconds=120)
    suspend("false")
    folder = calm.claim() / calm.namespace / "train" / stage(status, "train")["fingerprint"]

    def again() -> list[int]:
        return [step for step, (attempt, _) in losses(folder).items() if attempt == 2]

    # Not from the status, which shows the first attempt's progress until the second has some.
    first = min(wait_for("steps of attempt 2", again, seconds=300))
    assert first > saved
    train = stage(calm.kube.status(training, calm.namespace), "train")
    assert (train["attempt"], train["failures"], train["preemptions"]) == (2, 0, 0)


def test_a_run_deleted_half_way_leaves_nothing_behind_but_its_artifacts(calm: World, training: str) -> None:
    assert stage(calm.kube.status(training, calm.namespace), "train")["state"] == "Running"
    calm.kube.must("delete", "distillrun", training, "-n", calm.namespace, "--timeout=30s")

    def left() -> str:
        kinds = "jobs,pods,services,deployments,configmaps,persistentvolumeclaims,networkpolicies"
        return calm.kube.must("get", kinds, "-n", calm.namespace, "-l", f"distillrun.dev/run={training}", "-o", "name")

    wait_for("everything to be gone", lambda: not left().strip(), seconds=120)
    assert (calm.claim() / calm.namespace / "curate").is_dir()
    assert list((calm.claim() / calm.namespace / "train").glob("*/checkpoints/*"))
