"""Why a stage's pods do not run yet, in words that name what is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from distillrun.plan import reasons
from distillrun.plan.model import Pod

_PULL = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
_CREATE = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff"}
_ON_ITS_WAY = "the run goes on by itself when it is there"


@dataclass(frozen=True)
class Wait:
    """A reason (constant) and a sentence."""

    reason: str
    message: str


def diagnose(pods: Iterable[Pod]) -> Wait | None:
    """The first thing that keeps a pod from running, or None when nothing is known to."""
    for pod in sorted(pods, key=lambda pod: (pod.index, pod.name)):
        if pod.end is not None or pod.deleting:
            continue
        wait = _container(pod) or _scheduling(pod)
        if wait is not None:
            return wait
    return None


def _container(pod: Pod) -> Wait | None:
    words = pod.waiting_message.strip() or pod.waiting_reason
    if pod.waiting_reason in _PULL:
        return Wait(reasons.IMAGE_NOT_PULLED, f"pod {pod.name} cannot pull its image ({pod.waiting_reason}): {words}")
    if pod.waiting_reason in _CREATE:
        secret = re.search(r'secret "([^"]+)" not found', words)
        if secret:
            return Wait(
                reasons.SECRET_NOT_FOUND,
                f"Secret {secret.group(1)} is not in the namespace: create it; {_ON_ITS_WAY}",
            )
        key = re.search(r"couldn't find key (\S+) in Secret \S*?/?([^/\s]+)$", words)
        if key:
            return Wait(
                reasons.SECRET_NOT_FOUND, f"Secret {key.group(2)} has no key {key.group(1)}: add it; {_ON_ITS_WAY}"
            )
        return Wait(reasons.CONTAINER_NOT_CREATED, f"pod {pod.name} does not start ({pod.waiting_reason}): {words}")
    return None


def _scheduling(pod: Pod) -> Wait | None:
    words = pod.unschedulable.strip()
    if not words:
        return None
    if "scheduling gates" in words:
        return Wait(reasons.QUEUED, f"pod {pod.name} waits for quota: {words}")
    claim = re.search(r'persistentvolumeclaim "([^"]+)" not found', words)
    if claim:
        return Wait(
            reasons.CLAIM_NOT_FOUND,
            f"PersistentVolumeClaim {claim.group(1)} is not in the namespace: create it; {_ON_ITS_WAY}",
        )
    if "unbound immediate PersistentVolumeClaims" in words:
        return Wait(reasons.CLAIM_PENDING, f"the volume claim is not bound yet: {words}")
    return Wait(reasons.UNSCHEDULABLE, f"pod {pod.name} finds no node: {words}")
