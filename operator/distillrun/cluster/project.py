"""Kubernetes objects as plain dicts → the small projections that the planner sees.

Pure functions. Every field may be missing: objects come from the API server, but at any moment of their life.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from distillrun.plan.model import Child, ContainerEnd, Job, Pod, Run
from distillrun.plan.names import (
    ANNOTATION_APPLIED,
    ANNOTATION_FINGERPRINT,
    ANNOTATION_HOLDER_CREATED,
    CONTAINER,
    LABEL_ATTEMPT,
    LABEL_RUN,
    LABEL_RUN_UID,
    LABEL_STAGE,
)

Json = Mapping[str, Any]
INDEX = "batch.kubernetes.io/job-completion-index"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def run(body: Json) -> Run:
    """A DistillRun."""
    meta = _metadata(body)
    return Run(
        namespace=str(meta.get("namespace") or ""),
        name=str(meta.get("name") or ""),
        uid=str(meta.get("uid") or ""),
        generation=_int(meta.get("generation")),
        resource_version=str(meta.get("resourceVersion") or ""),
        created=time(meta.get("creationTimestamp")) or EPOCH,
        spec=body.get("spec") or {},
        status=body.get("status") or {},
        deleting=bool(meta.get("deletionTimestamp")),
    )


def pod(body: Json, gpu_resource: str = "nvidia.com/gpu") -> Pod:
    """A pod of a stage. `gpus` counts the limits of `gpu_resource` over all its containers."""
    meta, spec, status = _metadata(body), body.get("spec") or {}, body.get("status") or {}
    container = _container(status)
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    ended = _ended(container)
    running = state.get("running") or state.get("terminated") or {}
    scheduled = _condition(status, "PodScheduled")
    disruption = _condition(status, "DisruptionTarget")
    return Pod(
        name=str(meta.get("name") or ""),
        uid=str(meta.get("uid") or ""),
        stage=label(body, LABEL_STAGE),
        attempt=_int(label(body, LABEL_ATTEMPT)),
        job=_owner_name(body),
        index=_int(label(body, INDEX) or _annotation(body, INDEX)),
        phase=_shared(status.get("phase") or "Pending"),
        ip=str(status.get("podIP") or ""),
        node=_shared(spec.get("nodeName")),
        gpus=sum(_gpus(each, gpu_resource) for each in spec.get("containers") or ()),
        created=time(meta.get("creationTimestamp")) or EPOCH,
        scheduled=time(scheduled.get("lastTransitionTime")) if scheduled.get("status") == "True" else None,
        started=time(running.get("startedAt")),
        end=_container_end(ended) if ended else None,
        waiting_reason=str(waiting.get("reason") or ""),
        waiting_message=str(waiting.get("message") or ""),
        unschedulable=str(scheduled.get("message") or "") if scheduled.get("status") == "False" else "",
        disrupted=str(disruption.get("reason") or "Disruption") if disruption.get("status") == "True" else "",
        ready=_condition(status, "Ready").get("status") == "True",
        deleting=bool(meta.get("deletionTimestamp")),
        deleted=_deleted(meta),
    )


def job(body: Json) -> Job:
    """A batch/v1 Job of a stage."""
    meta, status = _metadata(body), body.get("status") or {}
    failed = _true(status, "Failed") or _true(status, "FailureTarget")
    complete = _true(status, "Complete") or _true(status, "SuccessCriteriaMet")
    return Job(
        name=str(meta.get("name") or ""),
        uid=str(meta.get("uid") or ""),
        owner_uid=_shared(controller(body).get("uid")),
        stage=label(body, LABEL_STAGE),
        attempt=_int(label(body, LABEL_ATTEMPT)),
        fingerprint=_annotation(body, ANNOTATION_FINGERPRINT),
        created=time(meta.get("creationTimestamp")) or EPOCH,
        suspended=bool((body.get("spec") or {}).get("suspend")),
        active=_int(status.get("active")),
        succeeded=_int(status.get("succeeded")),
        failed=_int(status.get("failed")),
        complete=bool(complete),
        failure=str(failed.get("reason") or "Failed") if failed else "",
        failure_message=str(failed.get("message") or ""),
        finished=time(status.get("completionTime")) or time((failed or complete).get("lastTransitionTime")),
        deleting=bool(meta.get("deletionTimestamp")),
        preempted=_preempted(status),
    )


def child(body: Json, kind: str) -> Child:
    """A Service, Deployment, ConfigMap or PersistentVolumeClaim of a run."""
    meta, status = _metadata(body), body.get("status") or {}
    available, phase = 0, ""
    if kind == "Deployment":
        if _int(status.get("observedGeneration")) >= _int(meta.get("generation")):
            available = _int(status.get("availableReplicas"))
        phase = _deployment_trouble(status)
    elif kind == "PersistentVolumeClaim":
        phase = str(status.get("phase") or "Pending")
    return Child(
        kind=kind,
        name=str(meta.get("name") or ""),
        uid=str(meta.get("uid") or ""),
        owner_uid=_shared(controller(body).get("uid")),
        deleting=bool(meta.get("deletionTimestamp")),
        run_uid=label(body, LABEL_RUN_UID),
        run_name=label(body, LABEL_RUN),
        holder_since=time(_annotation(body, ANNOTATION_HOLDER_CREATED)),
        hash=_annotation(body, ANNOTATION_APPLIED),
        available=available,
        phase=phase,
    )


def controller(body: Json) -> Json:
    """The owner reference that controls an object; empty when none does."""
    for owner in _metadata(body).get("ownerReferences") or ():
        if owner.get("controller"):
            return dict(owner)
    return {}


def label(body: Json, name: str) -> str:
    """Value of a label, "" when the object has none of that name."""
    return _shared((_metadata(body).get("labels") or {}).get(name))


def time(value: Any) -> datetime | None:
    """An RFC 3339 timestamp, in UTC where it names no zone; None when missing or broken."""
    try:
        parsed = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _shared(value: Any) -> str:
    """Text that many objects have in common: one string for all of them, not one for each time that JSON is parsed."""
    return sys.intern(str(value or ""))


def _metadata(body: Json) -> Json:
    return body.get("metadata") or {}


def _annotation(body: Json, name: str) -> str:
    return str((_metadata(body).get("annotations") or {}).get(name) or "")


def _int(value: Any) -> int:
    try:
        return int(value or 0)
    except (TypeError, ValueError):
        return 0


def _condition(status: Json, kind: str) -> Json:
    conditions: Iterable[Json] = status.get("conditions") or ()
    return next((c for c in conditions if c.get("type") == kind), {})


def _true(status: Json, kind: str) -> Json:
    condition = _condition(status, kind)
    return condition if condition.get("status") == "True" else {}


def _preempted(status: Json) -> bool:
    """Whether a failed Job was suspended when it failed, even if it has been let go since."""
    suspension, target = _condition(status, "Suspended"), _true(status, "FailureTarget")
    if not suspension or not target:
        return False
    changed, failed = time(suspension.get("lastTransitionTime")), time(target.get("lastTransitionTime"))
    held = suspension.get("status") == "True" or suspension.get("reason") == "JobResumed"
    return (
        held
        and changed is not None
        and failed is not None
        and (suspension.get("status") == "True" or changed >= failed)
    )


def _container(status: Json) -> Json:
    statuses: Iterable[Json] = status.get("containerStatuses") or ()
    return next((c for c in statuses if c.get("name") == CONTAINER), {})


def _ended(container: Json) -> Json:
    """How the container ended; for one that waits to be restarted, how it ended last."""
    state = container.get("state") or {}
    if state.get("terminated"):
        return dict(state["terminated"])
    if state.get("waiting"):
        return dict((container.get("lastState") or {}).get("terminated") or {})
    return {}


def _container_end(ended: Json) -> ContainerEnd:
    return ContainerEnd(
        exit_code=_int(ended.get("exitCode")),
        reason=str(ended.get("reason") or ""),
        message=str(ended.get("message") or ""),
        finished=time(ended.get("finishedAt")),
    )


def _deleted(meta: Json) -> datetime | None:
    """When the deletion was asked for. The deletionTimestamp says when the grace period ends."""
    ends = time(meta.get("deletionTimestamp"))
    return ends - timedelta(seconds=_int(meta.get("deletionGracePeriodSeconds"))) if ends else None


def _gpus(container: Json, resource: str) -> int:
    return _int(((container.get("resources") or {}).get("limits") or {}).get(resource))


def _owner_name(body: Json) -> str:
    """Name of the Job that controls a pod, or of the Deployment behind its ReplicaSet."""
    owner = controller(body)
    name = _shared(owner.get("name"))
    if owner.get("kind") == "Job":
        return name
    if owner.get("kind") == "ReplicaSet":
        return name.removesuffix("-" + label(body, "pod-template-hash"))
    return ""


def _deployment_trouble(status: Json) -> str:
    """The sentence that says why a Deployment is not where it should be, the most telling one first."""
    failure = _true(status, "ReplicaFailure")
    if failure:
        return str(failure.get("message") or "")
    for kind in ("Progressing", "Available"):
        condition = _condition(status, kind)
        if condition.get("status") == "False":
            return str(condition.get("message") or "")
    return ""
