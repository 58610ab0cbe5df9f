"""What a stage's first pod left in its termination message besides headline numbers: scores, and what was resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from distillrun.api.funnel import Against
from distillrun.api.stages import Benchmark, Dataset, Source
from distillrun.api.status import Resolved, Score
from distillrun.api.v1alpha1 import Spec
from distillrun.plan import outcome
from distillrun.plan.model import Pod
from distillrun.plan.revisions import unchecked


def scores(pods: Sequence[Pod]) -> list[Score]:
    """The scores that an evaluation's first pod left. Raises nothing: what is malformed is left out."""
    end = outcome.success(pods)
    raw = (end.numbers or {}).get("scores") if end else None
    found: list[Score] = []
    for item in raw if isinstance(raw, list) else []:
        try:
            found.append(
                Score(
                    benchmark=item["benchmark"],
                    model=item["model"],
                    metric=item["metric"],
                    value=f"{float(item['value']):.4f}",
                    low=f"{float(item['low']):.4f}",
                    high=f"{float(item['high']):.4f}",
                    samples=int(item["n"]),
                )
            )
        except (KeyError, TypeError, ValueError):
            continue
    return found[:128]


def resolved(pods: Sequence[Pod], spec: Spec) -> Resolved:
    """What the resolve stage's pod found. Raises nothing: a part that is malformed counts as not found.

    Entries come in the order of the spec: as objects, or, to fit a termination message, as [revision, rows] or as the
    revision alone.
    """
    end = outcome.success(pods)
    raw = (end.numbers or {}).get("resolved") if end else None
    if not isinstance(raw, Mapping):
        return Resolved()
    benchmarks = spec.evaluate.benchmarks if spec.evaluate else []
    student, model = raw.get("student"), spec.student.model
    if isinstance(student, Mapping) and unchecked(model.uri, model.revision):
        student = {**student, "unchecked": True}
    parts = {
        "student": student,
        "sources": _entries(raw.get("sources"), spec.curate.inputs),
        "benchmarks": _entries(raw.get("benchmarks"), benchmarks),
        "against": _entries(raw.get("against", []), spec.curate.decontaminate.against),
    }
    found: dict[str, object] = {}
    for part, value in parts.items():
        try:
            Resolved.model_validate({part: value})
        except ValidationError:
            continue
        found[part] = value
    return Resolved.model_validate(found)


def _entries(raw: Any, inputs: Sequence[Source | Dataset | Benchmark | Against]) -> list[Any]:
    """Entries with their names and revisions, whichever of the three forms they came in."""
    found: list[Any] = []
    for given, entry in zip(inputs, raw if isinstance(raw, list) else (), strict=False):
        mark = {"unchecked": True} if unchecked(given.uri, given.revision) else {}
        if isinstance(entry, str):
            found.append({"name": given.name, "revision": entry, **mark})
        elif isinstance(entry, list):
            found.append({**dict(zip(("revision", "rows"), entry, strict=False)), "name": given.name, **mark})
        else:
            found.append({**entry, **mark} if isinstance(entry, Mapping) else entry)
    return found
