"""Builders for the planner's tests: a run, a Job, a pod, each with defaults that a test overrides by name."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from distillrun.plan.model import Child, ContainerEnd, Job, Observed, Pod, Run, Settings

T0 = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
# Without NetworkPolicies, which are one more object of every stage: tests/unit/plan/test_isolation.py is about them.
SETTINGS = Settings(
    images={stage: f"registry.test/{stage}:1" for stage in ("resolve", "curate", "train", "evaluate", "serve")},
    network=None,
)


def at(seconds: float) -> datetime:
    """A moment, in seconds after the run was created."""
    return T0 + timedelta(seconds=seconds)


def spec(**changes: Any) -> dict[str, Any]:
    """A small complete spec; keyword arguments replace its top-level fields, None removes them."""
    whole = {
        "storage": {"claimName": "demo"},
        "budget": {"gpuHourPrice": "3.60"},
        "models": [
            {
                "name": "teacher",
                "endpoint": {
                    "url": "http://teacher:8080/v1",
                    "model": "big",
                    "apiKeySecretRef": {"name": "teacher", "key": "apiKey"},
                },
                "terms": {"trainingPermitted": True, "reference": "https://example.com/terms"},
            }
        ],
        "teacher": "teacher",
        "student": {"model": {"uri": "file:///mnt/distillrun/demo/pupil"}},
        "curate": {"sources": [{"name": "pool", "uri": "file:///mnt/distillrun/demo/train.jsonl"}]},
        "train": {"nodes": 2, "gpusPerNode": 1, "maxSteps": 100, "globalBatchSize": 8},
        "evaluate": {"benchmarks": [{"name": "additions", "uri": "file:///mnt/distillrun/demo/test.jsonl"}]},
        "gates": [{"benchmark": "additions", "atLeast": "0.95"}],
        "serve": {},
        **changes,
    }
    return {key: value for key, value in whole.items() if value is not None}


def run(**changes: Any) -> Run:
    """A run as just created."""
    defaults: dict[str, Any] = {
        "namespace": "team",
        "name": "s1",
        "uid": "run-uid",
        "generation": 1,
        "resource_version": "1",
        "created": T0,
        "spec": spec(),
        "status": {"observedGeneration": -1},
    }
    return Run(**{**defaults, **changes})


def job(name: str, stage: str = "train", attempt: int = 1, **changes: Any) -> Job:
    """A Job at work."""
    defaults: dict[str, Any] = {
        "name": name,
        "uid": f"uid-{name}",
        "owner_uid": "run-uid",
        "stage": stage,
        "attempt": attempt,
        "fingerprint": "",
        "created": T0,
        "suspended": False,
        "active": 1,
        "succeeded": 0,
        "failed": 0,
        "complete": False,
        "failure": "",
        "failure_message": "",
        "finished": None,
        "deleting": False,
    }
    return Job(**{**defaults, **changes})


def pod(job_name: str, index: int = 0, stage: str = "train", **changes: Any) -> Pod:
    """A running pod of a Job."""
    defaults: dict[str, Any] = {
        "name": f"{job_name}-{index}",
        "uid": f"uid-{job_name}-{index}",
        "stage": stage,
        "attempt": 1,
        "job": job_name,
        "index": index,
        "phase": "Running",
        "ip": "10.0.0.9",
        "node": "node-1",
        "gpus": 1 if stage == "train" else 0,
        "created": T0,
        "scheduled": T0,
        "started": at(1),
        "end": None,
        "waiting_reason": "",
        "waiting_message": "",
        "unschedulable": "",
        "disrupted": "",
        "ready": True,
        "deleting": False,
    }
    return Pod(**{**defaults, **changes})


def ended(base: Pod, code: int, after: float = 60, kubernetes_reason: str = "", **message: Any) -> Pod:
    """The pod after its container ended; keyword arguments make its termination message."""
    text = json.dumps(message) if message else ""
    end = ContainerEnd(code, kubernetes_reason or ("Completed" if code == 0 else "Error"), text, at(after))
    return replace(base, end=end, phase="Succeeded" if code == 0 else "Failed")


def observed(*things: Job | Pod | Child, **changes: Any) -> Observed:
    """What the cache holds."""
    return Observed(
        jobs={thing.name: thing for thing in things if isinstance(thing, Job)},
        pods={thing.name: thing for thing in things if isinstance(thing, Pod)},
        children={(thing.kind, thing.name): thing for thing in things if isinstance(thing, Child)},
        **changes,
    )
