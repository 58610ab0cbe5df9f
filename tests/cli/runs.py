"""DistillRuns as the API server returns them, at moments of their life."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]

NOW = datetime(2026, 3, 1, 12, 10, 0, tzinfo=UTC)
ROOT = "file:///mnt/distillrun/demo-team"


def condition(kind: str, holds: bool, reason: str, message: str = "") -> Json:
    status = "True" if holds else "False"
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-03-01T12:00:00Z",
    }


def run(**status: Any) -> Json:
    """A run with that status, seen by the operator."""
    return {
        "apiVersion": "distillrun.dev/v1alpha1",
        "kind": "DistillRun",
        "metadata": {"name": "additions", "namespace": "demo-team", "uid": "uid-1", "generation": 3},
        "spec": {"gates": [{"benchmark": "additions", "metric": "Accuracy", "atLeast": "0.95"}]},
        "status": deepcopy({"observedGeneration": 3, **status}),
    }


PENDING: Json = {"state": "Pending", "attempt": 0, "failures": 0, "preemptions": 0, "results": {}}
CURATED: Json = {
    "name": "curate",
    "state": "Succeeded",
    "attempt": 1,
    "failures": 0,
    "preemptions": 0,
    "startTime": "2026-03-01T12:00:00Z",
    "completionTime": "2026-03-01T12:01:02Z",
    "artifact": f"{ROOT}/curate/aa/",
    "cost": {"amount": "0.0000", "gpuSeconds": "0.0"},
    "progress": {"done": 4000, "total": 4000, "unit": "questions", "rate": "64.5", "etaSeconds": 0, "numbers": {}},
    "results": {
        "questions": "4000",
        "accepted": "3600",
        "rejected": "400",
        "duplicates": "0",
        "rejectedByReason.Malformed": "10",
        "rejectedByReason.WrongAnswer": "390",
    },
}
TRAINING: Json = {
    "name": "train",
    "state": "Running",
    "attempt": 2,
    "failures": 0,
    "preemptions": 1,
    "startTime": "2026-03-01T12:01:30Z",
    "progress": {
        "done": 250,
        "total": 600,
        "unit": "steps",
        "rate": "3.5",
        "etaSeconds": 100,
        "numbers": {"loss": "0.0312", "tokens_per_second": "12345.6", "learning_rate": "0.002"},
        "time": "2026-03-01T12:09:50Z",
    },
    "lastCheckpoint": {"step": 200, "time": "2026-03-01T12:09:00Z"},
    "cost": {"amount": "0.8400", "gpuSeconds": "1020.0"},
}
TRAINED: Json = {
    **TRAINING,
    "state": "Succeeded",
    "completionTime": "2026-03-01T12:11:30Z",
    "results": {"steps": "600", "loss": "0.0101"},
}
EVALUATED: Json = {
    "name": "evaluate",
    "state": "Succeeded",
    "attempt": 1,
    "failures": 0,
    "preemptions": 0,
    "startTime": "2026-03-01T12:12:00Z",
    "completionTime": "2026-03-01T12:13:00Z",
    "cost": {"amount": "0.0500", "gpuSeconds": "60.0", "estimated": True},
    "results": {},
}
SERVING: Json = {"name": "serve", "state": "Running", "attempt": 1, "startTime": "2026-03-01T12:14:00Z"}


def score(model: str, value: str, low: str, high: str) -> Json:
    share = {"value": value, "low": low, "high": high}
    return {"benchmark": "additions", "model": model, "metric": "accuracy", "samples": 200, **share}


def fresh() -> Json:
    """Just created: the operator has not looked at it."""
    made = run()
    made["status"] = {"observedGeneration": -1}
    return made


def waiting() -> Json:
    """Curation waits for a Secret."""
    words = "Secret teacher is missing in namespace demo-team: create it, the run goes on by itself"
    stage = {**PENDING, "name": "curate", "attempt": 1, "reason": "SecretNotFound", "message": words}
    rest = [{**PENDING, "name": name} for name in ("train", "evaluate", "serve")]
    conditions = [condition("Ready", False, "SecretNotFound", words), condition("Reconciling", True, "SecretNotFound")]
    cost = {"spent": "0.0000", "currency": "USD", "gpuSeconds": "0.0"}
    return run(phase="Pending", message=f"curate: {words}", conditions=conditions, stages=[stage, *rest], cost=cost)


def curating() -> Json:
    """Half of the questions are answered."""
    progress = {
        "done": 2000,
        "total": 4000,
        "unit": "questions",
        "rate": "64.5",
        "etaSeconds": 31,
        "numbers": {
            "traces_accepted": "1795",
            'traces_rejected{reason="Malformed"}': "5",
            'traces_rejected{reason="WrongAnswer"}': "200",
        },
    }
    stage = {**CURATED, "state": "Running", "results": {}, "progress": progress}
    del stage["completionTime"]
    rest = [{**PENDING, "name": name} for name in ("train", "evaluate", "serve")]
    cost = {"spent": "0.0000", "currency": "USD", "gpuSeconds": "0.0"}
    conditions = [condition("Ready", False, "Running"), condition("Reconciling", True, "Running", "curate attempt 1")]
    return run(phase="Curating", message="curate attempt 1", stages=[stage, *rest], conditions=conditions, cost=cost)


def training() -> Json:
    """The second attempt of training, after a preemption."""
    rest = [{**PENDING, "name": name} for name in ("evaluate", "serve")]
    cost = {"spent": "0.8400", "currency": "USD", "gpuSeconds": "1020.0"}
    conditions = [condition("Ready", False, "Running"), condition("Reconciling", True, "Running", "train attempt 2")]
    stages = [CURATED, TRAINING, *rest]
    return run(phase="Training", message="train attempt 2", stages=stages, conditions=conditions, cost=cost)


def served() -> Json:
    """Done: the gate is passed and the student answers."""
    words = "passed: additions Accuracy 0.985 ≥ 0.95"
    return run(
        phase="Serving",
        message="the student is served",
        stages=[CURATED, TRAINED, EVALUATED, SERVING],
        conditions=[condition("Ready", True, "Served"), condition("GatesPassed", True, "GatesPassed", words)],
        cost={"spent": "0.8900", "currency": "USD", "gpuSeconds": "1080.0"},
        scores=[score("base", "0", "0", "0.0188"), score("student", "0.985", "0.9568", "0.9949")],
        artifacts={
            "dataset": f"{ROOT}/curate/aa/",
            "model": f"{ROOT}/train/bb/model",
            "report": f"{ROOT}/evaluate/cc/",
        },
        endpoint={"url": "http://additions-serve.demo-team.svc:8000/v1", "model": "additions"},
    )


def barred() -> Json:
    """The student did not clear the gate."""
    words = "not passed: additions Accuracy 0.56 < 0.95. Lower the gate or train a better student"
    made = deepcopy(served())
    made["status"] |= {
        "phase": "Failed",
        "message": f"gates {words}",
        "scores": [score("base", "0", "0", "0.0188"), score("student", "0.56", "0.4907", "0.6271")],
        "stages": [CURATED, TRAINED, EVALUATED, {**PENDING, "name": "serve"}],
        "conditions": [
            condition("Ready", False, "GatesNotPassed", words),
            condition("Stalled", True, "GatesNotPassed", words),
            condition("GatesPassed", False, "GatesNotPassed", words),
        ],
    }
    del made["status"]["endpoint"]
    return made


def failed() -> Json:
    """The teacher refused the key."""
    words = "the teacher refused the API key (401): correct key apiKey of Secret teacher"
    stage = {**CURATED, "state": "Failed", "results": {}, "reason": "TeacherUnauthorized", "message": words}
    rest = [{**PENDING, "name": name} for name in ("train", "evaluate", "serve")]
    return run(
        phase="Failed",
        message=f"curate failed (TeacherUnauthorized): {words}",
        stages=[stage, *rest],
        conditions=[
            condition("Ready", False, "TeacherUnauthorized", words),
            condition("Stalled", True, "TeacherUnauthorized", words),
        ],
        cost={"spent": "0.0000", "currency": "USD", "gpuSeconds": "0.0"},
    )


def held() -> Json:
    """Suspended by its budget; the dataset was taken over from another run, preflight is not sure."""
    words = "the run has used 450.10 of its budget.limit of 450: raise the limit to let it go on"
    unsure = "the GPU is not known: set spec.train.gpuProduct"
    taken = {**PENDING, "name": "curate", "state": "Reused", "attempt": 1, "reusedFrom": "other-team/first"}
    let_go = {**TRAINING, "state": "Pending", "preemptions": 2, "releases": 1}
    resolve = {**PENDING, "name": "resolve", "state": "Succeeded", "attempt": 1}
    feasible = {**condition("Feasible", False, "GpuUnknown", unsure), "status": "Unknown"}
    made = run(
        phase="Suspended",
        stage="train",
        message=words,
        stages=[resolve, taken, let_go],
        conditions=[
            condition("Ready", False, "BudgetExceeded", words),
            condition("Stalled", True, "BudgetExceeded", words),
            condition("Suspended", True, "BudgetExceeded", words),
            condition("BudgetExceeded", True, "BudgetExceeded", words),
            feasible,
        ],
        cost={
            "spent": "450.10",
            "currency": "USD",
            "gpuSeconds": "547421.0",
            "estimated": "400.00",
            "estimatedSeconds": 68400,
            "method": "6·N·tokens at an MFU of 8 %",
        },
    )
    made["spec"]["budget"] = {"limit": "450"}
    return made
