"""Objects of the API server become the planner's projections, whatever is missing in them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from distillrun.cluster import project
from distillrun.plan import names
from tests.unit.cluster import bodies

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_a_running_pod_is_projected_with_its_gpus_times_and_job() -> None:
    seen = project.pod(bodies.pod())
    assert (seen.job, seen.stage, seen.attempt, seen.gpus, seen.node, seen.ip) == (
        "s1-train",
        "train",
        1,
        2,
        "node-1",
        "10.0.0.9",
    )
    assert seen.scheduled == NOON + timedelta(seconds=2)
    assert seen.started == NOON + timedelta(seconds=5)
    assert seen.end is None


@pytest.mark.parametrize("body", [{}, {"metadata": {}}, {"metadata": None, "status": None, "spec": None}])
def test_an_object_without_anything_in_it_is_projected_all_the_same(body: dict[str, Any]) -> None:
    assert project.pod(body).phase == "Pending"
    assert project.job(body).active == 0
    assert project.run(body).status == {}
    for kind in ("Service", "Deployment", "ConfigMap", "PersistentVolumeClaim"):
        assert project.child(body, kind).owner_uid == ""


def test_the_end_of_the_stage_container_carries_code_and_message_and_other_containers_do_not_count() -> None:
    ended = {"exitCode": 65, "reason": "Error", "message": '{"reason":"SourceEmpty"}', "finishedAt": bodies.CREATED}
    statuses = [
        {"name": "sidecar", "state": {"terminated": {"exitCode": 1}}},
        {"name": "stage", "state": {"terminated": {**ended, "startedAt": bodies.CREATED}}},
    ]
    seen = project.pod(bodies.pod(phase="Failed", containerStatuses=statuses))
    assert seen.end is not None
    assert (seen.end.exit_code, seen.end.message, seen.end.finished) == (65, '{"reason":"SourceEmpty"}', NOON)
    assert seen.started == NOON


def test_a_container_that_waits_to_be_restarted_tells_how_it_ended_last() -> None:
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    last = {"terminated": {"exitCode": 70, "reason": "Error", "message": "engine died"}}
    statuses = [{"name": "stage", "state": state, "lastState": last}]
    seen = project.pod(bodies.pod(containerStatuses=statuses))
    assert (seen.waiting_reason, seen.waiting_message) == ("CrashLoopBackOff", "back-off 10s")
    assert seen.end is not None
    assert seen.end.exit_code == 70


def test_a_pod_that_cannot_be_scheduled_says_why() -> None:
    unschedulable = [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes have enough nvidia.com/gpu"}]
    seen = project.pod(bodies.pod(phase="Pending", conditions=unschedulable, containerStatuses=[]))
    assert seen.unschedulable == "0/3 nodes have enough nvidia.com/gpu"
    assert seen.scheduled is None


def test_a_preempted_pod_names_the_disruption() -> None:
    disrupted = [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]
    assert project.pod(bodies.pod(conditions=disrupted)).disrupted == "PreemptionByScheduler"


def test_the_moment_of_deletion_is_the_timestamp_less_the_grace_period() -> None:
    body = bodies.pod()
    body["metadata"] |= {"deletionTimestamp": "2026-01-31T12:01:00Z", "deletionGracePeriodSeconds": 60}
    seen = project.pod(body)
    assert seen.deleting
    assert seen.deleted == NOON


def test_a_pod_of_a_replica_set_belongs_to_the_deployment_behind_it() -> None:
    body = bodies.pod()
    body["metadata"]["ownerReferences"] = bodies.owner("ReplicaSet", "s1-serve-6d5f8c", "uid-rs")
    body["metadata"]["labels"]["pod-template-hash"] = "6d5f8c"
    assert project.pod(body).job == "s1-serve"


def test_a_job_is_failed_as_soon_as_its_failure_is_decided() -> None:
    target = {
        "type": "FailureTarget",
        "status": "True",
        "reason": "PodFailurePolicy",
        "message": "exit code 65",
        "lastTransitionTime": bodies.CREATED,
    }
    seen = project.job(bodies.job(conditions=[target]))
    assert (seen.failure, seen.failure_message, seen.finished, seen.complete) == (
        "PodFailurePolicy",
        "exit code 65",
        NOON,
        False,
    )


@pytest.mark.parametrize("kind", ["Complete", "SuccessCriteriaMet"])
def test_a_job_is_complete_as_soon_as_its_success_is_decided(kind: str) -> None:
    seen = project.job(bodies.job(conditions=[{"type": kind, "status": "True"}]))
    assert seen.complete
    assert seen.failure == ""


def test_a_job_says_whose_it_is_and_what_it_computes() -> None:
    seen = project.job(bodies.job())
    assert (seen.owner_uid, seen.fingerprint) == ("uid-s1", "ab" * 32)


def test_a_deployments_replicas_count_only_once_it_has_seen_its_own_change() -> None:
    metadata = bodies.meta("s1-serve", generation=2, annotations={names.ANNOTATION_APPLIED: "hash"})
    stale = {"metadata": metadata, "status": {"observedGeneration": 1, "availableReplicas": 3}}
    fresh = {"metadata": metadata, "status": {"observedGeneration": 2, "availableReplicas": 3}}
    assert project.child(stale, "Deployment").available == 0
    assert project.child(fresh, "Deployment").available == 3
    assert project.child(fresh, "Deployment").hash == "hash"


def test_a_deployment_whose_pods_are_refused_says_so() -> None:
    conditions = [
        {"type": "Available", "status": "False", "message": "no minimum availability"},
        {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: gpus"},
    ]
    body = {"metadata": bodies.meta("s1-serve"), "status": {"conditions": conditions}}
    assert project.child(body, "Deployment").phase == "exceeded quota: gpus"


def test_a_claim_says_its_phase() -> None:
    assert (
        project.child({"metadata": bodies.meta("c"), "status": {"phase": "Bound"}}, "PersistentVolumeClaim").phase
        == "Bound"
    )


@pytest.mark.parametrize("value", [None, "", "yesterday", 17])
def test_a_time_that_is_none_is_no_time(value: Any) -> None:
    assert project.time(value) is None
