"""Kubernetes objects as the API server sends them, with defaults that a test overrides by name."""

from __future__ import annotations

from typing import Any

from distillrun.plan import names

Json = dict[str, Any]
CREATED = "2026-01-31T12:00:00Z"


def meta(name: str, version: int = 1, uid: str = "", **changes: Any) -> Json:
    """Metadata in the namespace `team`."""
    base = {
        "name": name,
        "namespace": "team",
        "uid": uid or f"uid-{name}",
        "resourceVersion": str(version),
        "creationTimestamp": CREATED,
    }
    return {**base, **changes}


def labels(run_uid: str = "uid-s1", stage: str = "train", attempt: int = 1) -> Json:
    """What every child carries."""
    return {
        names.LABEL_RUN: "s1",
        names.LABEL_RUN_UID: run_uid,
        names.LABEL_STAGE: stage,
        names.LABEL_ATTEMPT: str(attempt),
        names.LABEL_MANAGED_BY: names.MANAGER,
    }


def owner(kind: str = "DistillRun", name: str = "s1", uid: str = "uid-s1") -> list[Json]:
    """One controlling owner reference."""
    return [{"apiVersion": "x/v1", "kind": kind, "name": name, "uid": uid, "controller": True}]


def run(name: str = "s1", version: int = 1, uid: str = "", **changes: Any) -> Json:
    """A DistillRun."""
    whole = {"kind": "DistillRun", "metadata": meta(name, version, uid), "spec": {}, "status": {"phase": "Training"}}
    return {**whole, **changes}


def pod(name: str = "s1-train-0", version: int = 1, *, run_uid: str = "uid-s1", **status: Any) -> Json:
    """A running pod of a training Job; keyword arguments replace parts of its status."""
    running = {
        "phase": "Running",
        "podIP": "10.0.0.9",
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-31T12:00:02Z"}],
        "containerStatuses": [{"name": "stage", "state": {"running": {"startedAt": "2026-01-31T12:00:05Z"}}}],
    }
    return {
        "kind": "Pod",
        "metadata": meta(name, version, labels=labels(run_uid), ownerReferences=owner("Job", "s1-train", "uid-job")),
        "spec": {
            "nodeName": "node-1",
            "containers": [{"name": "stage", "resources": {"limits": {"nvidia.com/gpu": "2"}}}],
        },
        "status": {**running, **status},
    }


def job(name: str = "s1-train", version: int = 1, *, run_uid: str = "uid-s1", **status: Any) -> Json:
    """A Job at work."""
    return {
        "kind": "Job",
        "metadata": meta(
            name,
            version,
            labels=labels(run_uid),
            ownerReferences=owner(uid=run_uid),
            annotations={names.ANNOTATION_FINGERPRINT: "ab" * 32},
        ),
        "spec": {"suspend": False},
        "status": {"active": 1, **status},
    }
