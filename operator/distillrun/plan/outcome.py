"""Why an attempt ended: one outcome out of all its pods' endings (docs/stages.md, "Exit codes").

Precedence: disruption > out of memory > usage, data, configuration > temporary > fault > lost node > stall. A rank
that reports a lost peer is never the cause, nor is one that was told to stop because another had failed. A pod that
still says nothing after its grace period is on a node that does not answer: a living kubelet would have ended it. Ranks
that stood still beside such a pod waited for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from distillrun.plan import reasons
from distillrun.plan.model import Job, Pod

Kind = Literal["Succeeded", "Absent", "Disrupted", "Permanent", "Temporary", "Fault", "Released", "Stopped"]
"""Absent: a probe found nothing to reuse. Released: let go because some pods could not start. Stopped: by ourselves."""

PERMANENT = {64, 65, 78}
TEMPORARY = 75
PEER_LOST = 76
KILLED_BY_SIGNAL = {130, 137, 143}
MESSAGE_LIMIT = 4096
DEFAULT_WAIT = 30.0
LONGEST_WAIT = 24 * 3600.0


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended and why."""

    kind: Kind
    reason: str
    message: str
    retry_after: float = 0.0
    """Seconds; for Temporary."""
    artifact: str = ""
    reused_from: str = ""
    """namespace/name of the run that made the artifact, when it was another one."""
    numbers: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Message:
    """A stage's termination message; every part may be missing."""

    outcome: str = ""
    reason: str = ""
    message: str = ""
    retry_after: float = 0.0
    artifact: str = ""
    reused_from: str = ""
    numbers: Mapping[str, Any] | None = None


def parse(text: str) -> Message:
    """Read a termination message; anything that is not our JSON becomes a message without an outcome. Untrusted."""
    try:
        raw = json.loads(text[: MESSAGE_LIMIT * 4])
    except ValueError:
        return Message(message=text.strip()[-500:])
    if not isinstance(raw, dict):
        return Message(message=text.strip()[-500:])
    wait = raw.get("retryAfterSeconds")
    numbers = raw.get("numbers")
    return Message(
        outcome=_text(raw.get("outcome"), 32),
        reason="".join(c for c in _text(raw.get("reason"), 64) if c.isalnum()),
        message=_text(raw.get("message"), 1500),
        retry_after=min(max(float(wait), 0.0), LONGEST_WAIT) if isinstance(wait, int | float) else 0.0,
        artifact=_text(raw.get("artifact"), 1024),
        reused_from=_text(raw.get("reusedFrom"), 320),
        numbers=numbers if isinstance(numbers, dict) else None,
    )


def _text(value: Any, limit: int) -> str:
    return value[:limit] if isinstance(value, str) else ""


def success(pods: Iterable[Pod]) -> Outcome | None:
    """The outcome of a complete Job, from the first pod that left a readable message; None when none did."""
    for pod in sorted(pods, key=lambda pod: (pod.index, pod.name)):
        if pod.end is not None and pod.end.exit_code == 0:
            message = parse(pod.end.message)
            if message.outcome == "Absent":
                return Outcome("Absent", "", "")
            if message.outcome == "Succeeded" and message.artifact:
                return Outcome(
                    "Succeeded",
                    reasons.SUCCEEDED,
                    "",
                    artifact=message.artifact,
                    reused_from=message.reused_from,
                    numbers=message.numbers,
                )
    return None


def failure(job: Job, pods: Iterable[Pod]) -> Outcome:
    """The outcome of a failed Job: the gravest ending of its pods by the precedence above."""
    verdicts = [(rank, -pod.index, outcome) for pod in pods for rank, outcome in [_verdict(pod)]]
    if not verdicts:
        return Outcome("Fault", job.failure or reasons.FAULT, _gone(job))
    rank, _, outcome = max(verdicts, key=lambda verdict: verdict[:2])
    if rank == 0 and not outcome.message:
        return Outcome("Fault", reasons.FAULT, _gone(job))
    return outcome


def ending(pod: Pod) -> Outcome:
    """The outcome of one pod's ending alone."""
    return _verdict(pod)[1]


def _gone(job: Job) -> str:
    words = f": {job.failure_message}" if job.failure_message else ""
    return f"the pods of Job {job.name} are gone without a message{words}"


def _verdict(pod: Pod) -> tuple[int, Outcome]:
    """Rank (the higher wins) and outcome of one pod's ending."""
    end = pod.end
    if pod.disrupted:
        where = f" on node {pod.node}" if pod.node else ""
        return 8, Outcome("Disrupted", reasons.DISRUPTED, f"pod {pod.name}{where} was disrupted: {pod.disrupted}")
    if end is None:
        if pod.node and pod.phase == "Running":
            said = f"pod {pod.name} ended without a word: node {pod.node} does not answer"
            return 3, Outcome("Disrupted", reasons.NODE_LOST, said)
        return 0, Outcome("Fault", reasons.FAULT, "")
    message = parse(end.message)
    said = message.message or f"pod {pod.name} ended with exit code {end.exit_code} and no message"
    reason = message.reason
    if end.reason == "OOMKilled" or reason == reasons.OUT_OF_MEMORY:
        if not message.message:
            said = f"pod {pod.name} was killed for want of memory: raise the stage's pod.resources.limits.memory"
        return 7, Outcome("Permanent", reasons.OUT_OF_MEMORY, said)
    if end.exit_code in PERMANENT:
        return 6, Outcome("Permanent", reason or reasons.FAULT, said)
    if end.exit_code == TEMPORARY:
        return 5, Outcome("Temporary", reason or "Temporary", said, retry_after=message.retry_after or DEFAULT_WAIT)
    if end.exit_code == PEER_LOST:
        return 0, Outcome("Fault", reasons.PEER_LOST, f"pod {pod.name} lost a peer that left no message")
    if end.exit_code in KILLED_BY_SIGNAL:
        if end.exit_code == 143 and pod.deleting:
            return 0, Outcome("Fault", reasons.KILLED, f"pod {pod.name} was deleted")
        return 1, Outcome("Fault", reason or reasons.KILLED, f"pod {pod.name} was killed (exit code {end.exit_code})")
    if end.exit_code == 0:
        return -1, Outcome("Fault", reasons.FAULT, "")
    return 2 if reason == reasons.STALLED_STAGE else 4, Outcome("Fault", reason or reasons.FAULT, said)
