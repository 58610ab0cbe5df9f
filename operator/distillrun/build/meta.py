"""Metadata that all children share: labels, owner, and the hash that tells whether an apply would change anything."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from distillrun.api import API_VERSION, KIND
from distillrun.api.v1alpha1 import Spec
from distillrun.plan import names
from distillrun.plan.model import Run, Want


def labels(want: Want, run: Run) -> dict[str, str]:
    """Labels by which the operator finds a child again, and a person selects it."""
    stage = {names.LABEL_STAGE: want.stage or want.companion} if want.stage or want.companion else {}
    attempt = {names.LABEL_ATTEMPT: str(want.attempt)} if want.role in ("config", "job", "server") else {}
    return {
        names.LABEL_RUN: run.name,
        names.LABEL_RUN_UID: run.uid,
        names.LABEL_MANAGED_BY: names.MANAGER,
        **stage,
        **attempt,
    }


def selector(want: Want, run: Run) -> dict[str, str]:
    """Labels by which Services, Deployments and policies find the pods of one stage, or companion, of this very run."""
    chosen = labels(want, run)
    return {key: chosen[key] for key in (names.LABEL_RUN_UID, names.LABEL_STAGE)}


def metadata(want: Want, run: Run, owned: bool = True) -> dict[str, Any]:
    """Name, labels, annotations and the controlling owner."""
    owner = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": run.name,
        "uid": run.uid,
        "controller": True,
        # No blockOwnerDeletion: setting it takes the right to change finalizers, which the operator does not have.
    }
    annotations = {names.ANNOTATION_FINGERPRINT: want.fingerprint} if want.fingerprint else {}
    return {
        "name": want.name,
        "namespace": run.namespace,
        "labels": labels(want, run),
        **({"annotations": annotations} if annotations else {}),
        **({"ownerReferences": [owner]} if owned else {}),
    }


def queued(meta: dict[str, Any], want: Want, spec: Spec) -> dict[str, Any]:
    """Metadata with Kueue's labels: on the Job or Deployment alone, since Kueue finds a pod's workload by itself.

    Under Kueue the priority of a workload is its own matter, too, and named by a label.
    """
    if not want.queue:
        return meta
    priority = {names.LABEL_QUEUE_PRIORITY: spec.priority_class_name} if spec.priority_class_name else {}
    return {**meta, "labels": {**meta["labels"], names.LABEL_QUEUE: want.queue, **priority}}


def with_hash(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with the annotation `distillrun.dev/applied`: the hash of all the rest of it."""
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]
    meta = manifest["metadata"]
    annotations = {**meta.get("annotations", {}), names.ANNOTATION_APPLIED: digest}
    return {**manifest, "metadata": {**meta, "annotations": annotations}}
