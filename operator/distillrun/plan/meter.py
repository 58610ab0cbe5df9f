"""What model servers cost: GPU-seconds of their pods, node assignment to end. Serving is counted apart from the run,
servers of models that a stage asks as a part of the stage.

A Deployment's pods have neither number nor end to wait for, and nothing of them is left once they are gone. So status
holds a ledger: each pod that holds GPUs, since when it is to be counted. A pod that ends is settled and stays in the
ledger with nothing left to count for as long as it is there; one that is gone without its end having been seen is
billed up to the pass that misses it, and the figure is marked `estimated`. Pods that came and went while no operator
looked are billed as their replicas' places (docs/decisions/0017-serving-is-metered.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from distillrun.api.status import LEDGER, MeteredPod, ServingCost
from distillrun.api.v1alpha1 import Spec
from distillrun.plan import cost, reasons
from distillrun.plan.clock import rfc3339
from distillrun.plan.model import Observed, Pod
from distillrun.plan.trouble import LOST_AFTER

NEAR = 0.8
"""Share of serve.maxCost at which a warning is given."""
SHOWN_EVERY = 300.0
"""Seconds after which what servers use is written anew; in between the pods themselves say it."""


@dataclass(frozen=True)
class Unwatched:
    """A time in which no operator looked, and how many GPUs the server may have held at any moment of it."""

    start: datetime
    end: datetime
    gpus: int


def mark(uid: str) -> str:
    """The ledger's word for a pod: 12 hexadecimal digits."""
    return hashlib.sha256(uid.encode()).hexdigest()[:12]


def unwatched(before: ServingCost | None, observed: Observed, servers: Mapping[str, int]) -> Unwatched | None:
    """What nobody looked at since the meter was written; None where there is no such time, or was no server in it.

    `servers`: by the name of each Deployment, the GPUs that it may hold at a moment.
    """
    gpus = sum(count for name, count in servers.items() if ("Deployment", name) in observed.children)
    if observed.unwatched is None or not gpus:
        return None
    start, end = observed.unwatched
    if before is not None:
        written = datetime.fromisoformat(before.time)
        if written >= end.replace(microsecond=0):
            return None  # it was counted when the meter was written, which is in whole seconds
        start = max(start, written)
    return Unwatched(start, end, gpus)


def over(pod: Pod, now: datetime) -> tuple[datetime, bool] | None:
    """When a model server's pod ended, and whether that is an upper bound; None while it holds its GPUs.

    A container that has ended in a pod that goes on is about to be started again: its GPUs stay assigned.
    """
    ended = pod.end.finished if pod.end is not None else None
    if pod.phase in ("Failed", "Succeeded"):
        return (ended, False) if ended is not None else (now, True)
    if pod.deleted is not None:
        if ended is not None and ended >= pod.deleted:
            return ended, False
        # As for Jobs: a node that does not answer is given up, and billed no longer.
        given_up = (now - pod.deleted).total_seconds() >= LOST_AFTER
        return (now, True) if given_up else None
    return None


def advance(
    before: ServingCost | None, pods: Iterable[Pod], price: str, now: datetime, unwatched: Unwatched | None = None
) -> ServingCost | None:
    """The meter after a look at the pods of a run's model servers; None while there is nothing to count.

    Looks may come at any time and see late what has happened: a pod's time is counted once, and never less than it
    held its GPUs.
    """
    count = _Count(before, [pod for pod in pods if pod.gpus], now)
    if unwatched is not None:
        count.unseen(unwatched)
    if before is None and not count.entries and not count.settled:
        return None
    live = sum(entry.gpus * _seconds(entry.since, now) for entry in count.entries)
    # Shown up to a moment after an end, which the kubelet gives in whole seconds: what was shown stays billed.
    used = max(count.settled + live, float(before.gpu_seconds) if before is not None else 0.0)
    return ServingCost(
        spent=cost.amount(used, price),
        gpu_seconds=cost.seconds(used),
        settled_gpu_seconds=cost.seconds(count.settled),
        estimated=count.estimated,
        pods=count.entries,
        forgotten=count.forgotten,
        time=rfc3339(now),
    )


@dataclass(frozen=True)
class Standing:
    """How serving stands against `serve.maxCost`: one of the reasons, and a sentence."""

    reason: str
    message: str


def holding(meter: ServingCost | None) -> int:
    """GPUs that are held at this moment."""
    return sum(entry.gpus for entry in meter.pods) if meter is not None else 0


def standing(spec: Spec, meter: ServingCost | None, price: str) -> Standing | None:
    """How far serving is from `serve.maxCost`; None when there is no such limit."""
    if spec.serve is None or spec.serve.max_cost is None:
        return None
    limit, text = float(spec.serve.max_cost), spec.serve.max_cost
    spent = _spent(meter, price)
    has = f"serving has used {spent:.2f} of its serve.maxCost of {text}"
    if spent >= limit:
        words = f"{has}: the model servers are removed; raise serve.maxCost, and they come back"
        return Standing(reasons.MAX_COST, words)
    if spent >= NEAR * limit:
        return Standing(reasons.NEAR_MAX_COST, f"{has}: at the limit the model servers are removed")
    return Standing(reasons.WITHIN_MAX_COST, f"within the serve.maxCost of {text}")


def waits(spec: Spec, meter: ServingCost | None, price: str) -> Iterator[float]:
    """Seconds after which to look again: when `serve.maxCost` or its warning is reached, or to show what is used."""
    held = holding(meter)
    if not held:
        return
    yield SHOWN_EVERY
    rate = held * float(price) / 3600
    if spec.serve is not None and spec.serve.max_cost is not None and rate > 0:
        limit, spent = float(spec.serve.max_cost), _spent(meter, price)
        yield from ((least - spent) / rate + 0.1 for least in (NEAR * limit, limit) if least > spent)


def _spent(meter: ServingCost | None, price: str) -> float:
    return float(meter.gpu_seconds) * float(price) / 3600 if meter is not None else 0.0


class _Count:
    """One look: the ledger as it was, brought to what the pods say."""

    def __init__(self, before: ServingCost | None, pods: Sequence[Pod], now: datetime) -> None:
        self.now = now
        self.pods = {mark(pod.uid): pod for pod in pods}
        self.before = list(before.pods) if before is not None else []
        self.settled = float(before.settled_gpu_seconds) if before is not None else 0.0
        self.estimated = before.estimated if before is not None else False
        self.forgotten = before.forgotten if before is not None else None
        live: list[MeteredPod] = []
        done: list[MeteredPod] = []
        for entry in [*self.before, *self._new()]:
            kept = self._look(entry)
            if kept is not None:
                (live if kept.gpus else done).append(kept)
        live.sort(key=lambda entry: (entry.since, entry.pod))
        done.sort(key=lambda entry: (entry.since, entry.pod), reverse=True)
        room = max(LEDGER - len(live), 0)
        self.entries = [*live[:LEDGER], *done[:room]]
        if done[room:]:
            self.forgotten = max(done[room].since, self.forgotten or done[room].since)

    def _new(self) -> list[MeteredPod]:
        """Entries of pods that the ledger does not have yet."""
        known = {entry.pod for entry in self.before}
        found = []
        for word, pod in self.pods.items():
            if word in known or pod.scheduled is None:
                continue
            end = over(pod, self.now)
            if end is not None and self.forgotten is not None and rfc3339(end[0]) <= self.forgotten:
                continue  # counted, and left out of a ledger that was full
            found.append(MeteredPod(pod=word, gpus=pod.gpus, since=rfc3339(pod.scheduled)))
        return found

    def _look(self, entry: MeteredPod) -> MeteredPod | None:
        """An entry after this look; what has ended is settled."""
        pod = self.pods.get(entry.pod)
        if not entry.gpus:
            return entry if pod is not None else None
        if pod is None:
            self.settled += entry.gpus * _seconds(entry.since, self.now)
            self.estimated = True
            return None
        end = over(pod, self.now)
        if end is None:
            return entry
        self.settled += entry.gpus * _seconds(entry.since, end[0])
        self.estimated |= end[1]
        return MeteredPod(pod=entry.pod, gpus=0, since=rfc3339(end[0]))

    def unseen(self, window: Unwatched) -> None:
        """Bill the places that no known pod had while nobody looked: others may have come and gone there."""
        known = 0.0
        for pod in self.pods.values():
            end = over(pod, self.now)
            known += pod.gpus * _overlap(pod.created, end[0] if end is not None else self.now, window)
        for entry in self.before:
            if entry.pod not in self.pods:
                known += entry.gpus * _overlap(datetime.fromisoformat(entry.since), self.now, window)
        missing = window.gpus * max((window.end - window.start).total_seconds(), 0.0) - known
        if missing > 0:
            self.settled += missing
            self.estimated = True


def _overlap(start: datetime, end: datetime, window: Unwatched) -> float:
    return max((min(end, window.end) - max(start, window.start)).total_seconds(), 0.0)


def _seconds(since: str, end: datetime) -> float:
    return max((end - datetime.fromisoformat(since)).total_seconds(), 0.0)
