"""What one write of a status says that the one before it did not: attempts that ended, stages, the run, money.

Statuses are read as plain JSON and leniently: the one before may be of another version of the operator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from distillrun.api.status import ENDED

Json = Mapping[str, Any]
COUNTED = ("failures", "preemptions", "releases")
"""What a stage's status counts; a run that is re-opened begins anew at 0."""


@dataclass(frozen=True)
class StageEnd:
    """A stage that is over; 0 seconds where no pod of it ever ran."""

    stage: str
    outcome: str
    seconds: float


@dataclass(frozen=True)
class Counted:
    """Attempts of a stage that ended by a failure, by a preemption, or because they were let go."""

    stage: str
    what: str
    reason: str
    count: int


@dataclass(frozen=True)
class Word:
    """One thing that changed, as a sentence for the log; stage and attempt when it is about one ("" and 0: none)."""

    text: str
    stage: str = ""
    attempt: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Transition:
    """The difference of two statuses of one run."""

    ends: tuple[StageEnd, ...] = ()
    counted: tuple[Counted, ...] = ()
    failed: str = ""
    """Why the run is Stalled now and was not before, "" otherwise."""
    gpu_seconds: Mapping[str, float] = field(default_factory=dict)
    """By stage, used since the status before."""
    spent: Decimal = Decimal(0)
    currency: str = ""
    words: tuple[Word, ...] = ()
    """Empty when only progress and cost went on."""


def between(before: Json, after: Json) -> Transition:
    """What `after` says that `before` did not. Never raises, whatever `before` holds."""
    old = dict(_stages(before))
    ends: list[StageEnd] = []
    counted: list[Counted] = []
    used: dict[str, float] = {}
    words: list[Word] = []
    for name, stage in _stages(after):
        was = old.get(name, {})
        state = str(stage.get("state") or "Pending")
        if state in ENDED and was.get("state") not in ENDED:
            ends.append(StageEnd(name, state, _seconds(stage)))
        for what in COUNTED:
            more = _int(stage.get(what)) - _int(was.get(what))
            if more > 0:
                counted.append(Counted(name, what, str(stage.get("reason") or ""), more))
        more_seconds = _number(_cost(stage).get("gpuSeconds")) - _number(_cost(was).get("gpuSeconds"))
        if more_seconds > 0:
            used[name] = float(more_seconds)
        words += _stage_words(name, was, stage)
    was, has = _serving(before), _serving(after)
    served = _number(has.get("gpuSeconds")) - _number(was.get("gpuSeconds"))
    if served > 0:
        used["serve"] = float(served)
    spent = max(_number(_cost(after).get("spent")) - _number(_cost(before).get("spent")), Decimal(0))
    spent += max(_number(has.get("spent")) - _number(was.get("spent")), Decimal(0))
    stalled = _true(after, "Stalled")
    return Transition(
        ends=tuple(ends),
        counted=tuple(counted),
        failed=str(stalled.get("reason") or "Unknown") if stalled and not _true(before, "Stalled") else "",
        gpu_seconds=used,
        spent=spent,
        currency=str(_cost(after).get("currency") or ""),
        words=(*words, *_run_words(before, after)),
    )


def _stage_words(name: str, was: Json, stage: Json) -> Iterator[Word]:
    told = ("state", "attempt", "reason")
    if all((was.get(key) or _EMPTY[key]) == (stage.get(key) or _EMPTY[key]) for key in told):
        return
    attempt, reason = _int(stage.get("attempt")), str(stage.get("reason") or "")
    text = f"{name} attempt {attempt}: {stage.get('state') or 'Pending'}"
    if reason:
        text += f" ({reason}: {stage.get('message') or ''})"
    yield Word(text, name, attempt, reason)


_EMPTY: Mapping[str, Any] = {"state": "Pending", "attempt": 0, "reason": ""}


def _run_words(before: Json, after: Json) -> Iterator[Word]:
    phase = str(after.get("phase") or "Pending")
    if before.get("phase") != phase:
        yield Word(f"The run is {phase}: {after.get('message') or ''}")
    old = {str(each.get("type")): each for each in _items(before, "conditions")}
    for each in _items(after, "conditions"):
        kind = str(each.get("type"))
        if kind not in _OF_STAGES and old.get(kind, {}).get("status") != each.get("status"):
            yield Word(
                f"Condition {kind} is {each.get('status')} ({each.get('reason')})", reason=str(each.get("reason") or "")
            )
    for kind in old.keys() - {str(each.get("type")) for each in _items(after, "conditions")} - _OF_STAGES:
        yield Word(f"Condition {kind} is gone")


_OF_STAGES = {"Resolved", "Curated", "Trained", "Evaluated", "Serving"}
"""Conditions that say what a stage's own line says already."""


def _stages(status: Json) -> Iterator[tuple[str, Json]]:
    for stage in _items(status, "stages"):
        yield str(stage.get("name") or ""), stage


def _items(status: Json, name: str) -> Iterator[Json]:
    items = status.get(name)
    for each in items if isinstance(items, list | tuple) else ():
        if isinstance(each, Mapping):
            yield each


def _true(status: Json, kind: str) -> Json:
    return next(
        (each for each in _items(status, "conditions") if each.get("type") == kind and each.get("status") == "True"), {}
    )


def _cost(holder: Json) -> Json:
    cost = holder.get("cost")
    return cost if isinstance(cost, Mapping) else {}


def _serving(status: Json) -> Json:
    serving = _cost(status).get("serving")
    return serving if isinstance(serving, Mapping) else {}


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0


def _number(value: object) -> Decimal:
    try:
        number = Decimal(str(value or 0))
    except InvalidOperation:
        return Decimal(0)
    return number if number.is_finite() else Decimal(0)


def _seconds(stage: Json) -> float:
    """From the first pod's start to the end."""
    try:
        start = datetime.fromisoformat(str(stage.get("startTime") or ""))
        end = datetime.fromisoformat(str(stage.get("completionTime") or ""))
        return max((end - start).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0
