"""What metrics need of each run, kept from scrape to scrape: only a run that has changed is unpacked again."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from distillrun.cluster.cache import Cache, Key
from distillrun.cluster.knownreasons import named
from distillrun.plan.model import Run

AT_REST = ("Suspended", "Succeeded", "Failed")
"""Phases in which a stage that is not over waits for nothing that comes by itself."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One run."""

    phase: str
    stages: tuple[tuple[str, str], ...]
    """Name and state."""
    waits: tuple[tuple[str, str], ...]
    """Name and reason of the stages that are not over and say why."""
    over_budget: bool
    budget_share: float | None
    """Of an unfinished run with a budget."""
    gpu_seconds: float
    spent: float
    currency: str
    serving_gpu_seconds: float
    serving_spent: float
    serving_share: float | None
    """Of a run with `serve.maxCost` whose servers have used something."""


class Summaries:
    """The summaries of all runs of a cache."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._kept: dict[Key, tuple[int, Summary]] = {}

    def now(self) -> Iterator[tuple[Key, Summary]]:
        """Each run's summary, in no order."""
        kept: dict[Key, tuple[int, Summary]] = {}
        for key in self._cache.run_keys():
            entry = self._cache.get(("DistillRun", *key))
            if entry is None:
                continue
            known = self._kept.get(key)
            if known is None or known[0] != entry.version:
                run = self._cache.run(key)
                if run is None:
                    continue
                known = (entry.version, summary(run))
            kept[key] = known
            yield key, known[1]
        self._kept = kept


def summary(run: Run) -> Summary:
    """The summary of a run. Raises nothing: what is malformed counts for nothing."""
    status = run.status
    phase = sys.intern(str(status.get("phase") or "Pending"))
    stages = [
        (each, sys.intern(str(each.get("name") or "")), sys.intern(str(each.get("state") or "Pending")))
        for each in _maps(status.get("stages"))
    ]
    cost = status.get("cost") or {}
    spent = _number(cost.get("spent"))
    limit = _number((run.spec.get("budget") or {}).get("limit"))
    serving = cost.get("serving") or {}
    serving_spent = _number(serving.get("spent"))
    serving_limit = _number((run.spec.get("serve") or {}).get("maxCost"))
    return Summary(
        phase=phase,
        stages=tuple((name, state) for _, name, state in stages),
        waits=tuple(
            (name, named(str(each["reason"])))
            for each, name, state in stages
            if each.get("reason") and state in ("Pending", "Running") and phase not in AT_REST
        ),
        over_budget=any(
            each.get("type") == "BudgetExceeded" and each.get("status") == "True"
            for each in _maps(status.get("conditions"))
        ),
        budget_share=spent / limit if limit > 0 and not status.get("finishedTime") else None,
        gpu_seconds=_number(cost.get("gpuSeconds")),
        spent=spent,
        currency=sys.intern(str(cost.get("currency") or "")),
        serving_gpu_seconds=_number(serving.get("gpuSeconds")),
        serving_spent=serving_spent,
        serving_share=serving_spent / serving_limit if serving and serving_limit > 0 else None,
    )


def _maps(items: Any) -> Iterator[Mapping[str, Any]]:
    yield from (each for each in items or () if isinstance(each, Mapping))


def _number(text: Any) -> float:
    try:
        return float(text or 0)
    except (TypeError, ValueError):
        return 0.0
