"""What ends an attempt that Kubernetes believes to be alive: a lost node, pods that never start, a stage that hangs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from distillrun.api.status import Stage
from distillrun.plan import reasons
from distillrun.plan.model import Pod, Scrape
from distillrun.plan.outcome import Outcome
from distillrun.plan.settle import GRACE_SECONDS
from distillrun.plan.waiting import Wait

LOST_AFTER = GRACE_SECONDS + 30.0
"""Seconds after a pod was told to go for which its node may be silent."""
FRESH_SCRAPE = 60.0
SUPERVISOR_FIRST = 300.0
"""Seconds that a stage's own supervisor has to find a stall, and to keep the stacks, before the operator steps in."""


def lost_node(pods: Sequence[Pod], now: datetime) -> Outcome | float | None:
    """A pod that was evicted from a node that does not answer: its Job would wait for it for ever.

    The outcome once it is certain, the seconds until then while it is not, None when there is no such pod.
    """
    going = [pod for pod in pods if pod.disrupted and pod.deleted is not None and pod.end is None]
    if not going:
        return None
    pod = min(going, key=lambda pod: pod.deleted or now)
    assert pod.deleted is not None
    left = LOST_AFTER - (now - pod.deleted).total_seconds()
    if left > 0:
        return left
    words = f"pod {pod.name} was told to go ({pod.disrupted}) and node {pod.node} does not answer"
    return Outcome("Disrupted", reasons.NODE_LOST, words)


def blocked(
    pods: Sequence[Pod], expected: int, wait: Wait | None, timeout: int, now: datetime
) -> Outcome | float | None:
    """Pods that hold GPUs while another one of the attempt cannot start.

    The outcome once `timeout` seconds are over, the seconds until then, None when no GPU waits for a pod.
    """
    holding = [pod.scheduled for pod in pods if pod.gpus and pod.scheduled is not None and pod.end is None]
    late = [pod for pod in pods if pod.started is None and pod.end is None]
    if not holding or not (late or len(pods) < expected):
        return None
    # From when the last of them came to hold GPUs: they may have come one after the other out of a busy cluster.
    left = timeout - (now - max(holding)).total_seconds()
    if left > 0:
        return left
    if wait is not None:
        cause = wait.message
    elif late:
        cause = f"pod {late[0].name} has been starting for {timeout} s: see its events"
    else:
        cause = f"only {len(pods)} of {expected} pods were created"
    held = sum(pod.gpus for pod in pods if pod.scheduled is not None)
    return Outcome("Released", reasons.RELEASED, f"{held} GPUs were let go after startTimeoutSeconds: {cause}")


def stalled(stage: Stage, pods: Sequence[Pod], scrape: Scrape | None, timeout: int, now: datetime) -> Outcome | None:
    """A stage whose first pod answers and makes no progress. What cannot be seen is left to the supervisor."""
    if scrape is None or (now - scrape.at).total_seconds() > FRESH_SCRAPE:
        return None
    if stage.progress is None or stage.progress.moved_time is None:
        return None
    started = [pod.started for pod in pods if pod.started is not None]
    moved = max([datetime.fromisoformat(stage.progress.moved_time), *started])
    still = (now - moved).total_seconds()
    if still < timeout + SUPERVISOR_FIRST:
        return None
    step = f"{stage.progress.unit or 'step'} {stage.progress.done}"
    return Outcome(
        "Fault", reasons.STALLED_STAGE, f"no progress since {step} for {still:.0f} s: all pods are restarted"
    )
