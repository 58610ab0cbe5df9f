"""Names, labels and annotations of a run's children.

A name says run, stage, fingerprint and attempt, in that order. When it would be too long, the run's part is cut and a
hash of the whole takes its place, so that two long names never meet.
"""

from __future__ import annotations

import hashlib
import re

LABEL_RUN = "distillrun.dev/run"
LABEL_RUN_UID = "distillrun.dev/run-uid"
LABEL_STAGE = "distillrun.dev/stage"
"""A stage, or a companion of stages (companions.py), which no stage's policy, Service or count takes for its own."""
LABEL_ATTEMPT = "distillrun.dev/attempt"
LABEL_ENDPOINT = "distillrun.dev/endpoint"
"""On a Service shared by runs: its own name. Such a Service has no owner and is taken over, never deleted."""
LABEL_QUEUE = "kueue.x-k8s.io/queue-name"
LABEL_QUEUE_PRIORITY = "kueue.x-k8s.io/priority-class"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
ANNOTATION_FINGERPRINT = "distillrun.dev/fingerprint"
ANNOTATION_APPLIED = "distillrun.dev/applied"
ANNOTATION_HOLDER_CREATED = "distillrun.dev/holder-created"
MANAGER = "distillrun-operator"
CONTAINER = "stage"

# A pod of an Indexed Job has the host name `<job>-<index>`, a DNS label of at most 63 characters; 512 nodes at most.
JOB_NAME_LIMIT = 63 - len("-511")
LABEL_LIMIT = 63


def child(run: str, *parts: str, limit: int = LABEL_LIMIT) -> str:
    """A DNS label (RFC 1035: begins with a letter) made of a run's name and parts, at most `limit` characters.

    Runs may have dots in their names and begin with a digit; children that become host names may not. A name that had
    to be changed for whatever reason carries a hash of the unchanged one.
    """
    whole = "-".join((run, *parts))
    label = re.sub(r"[^a-z0-9-]", "-", whole)
    if not label[0].isalpha():
        label = f"r-{label}"
    if label == whole and len(label) <= limit:
        return label
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    tail = "-".join((digest, *parts))
    head = label[: limit - len(tail) - 1].rstrip("-")
    return f"{head}-{tail}"


def job(run: str, stage: str, fingerprint: str, attempt: int) -> str:
    """Name of the Job (and of its ConfigMap) of one attempt at a stage."""
    return child(run, stage, fingerprint[:8], str(attempt), limit=JOB_NAME_LIMIT)


def rendezvous(run: str) -> str:
    """Name of the headless Service through which training pods find each other."""
    return child(run, "train")


def server(run: str) -> str:
    """Name of the Deployment and the Service that serve the student."""
    return child(run, "serve")


def sandbox(run: str) -> str:
    """Name of the Deployment and the Service that judge code."""
    return child(run, "sandbox")


def model_server(run: str, model: str, digest: str) -> str:
    """Name of the Deployment, the Service and the ConfigMap of a model that the run serves itself."""
    return child(run, "model", model, digest[:8])


def claim(run: str) -> str:
    """Name of the claim made from `storage.claimTemplate`."""
    return child(run, "artifacts")
