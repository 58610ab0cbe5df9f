"""Fingerprints: SHA-256 over the canonical JSON of all that determines a stage's output, and of nothing else.

What only changes speed, place or patience (pods, concurrency, time-outs, checkpoint spacing, secrets' names) is left
out: changing it must not throw away a dataset that cost money. `outputVersion` is raised by hand when a stage's output
changes its meaning.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from distillrun.api.v1alpha1 import Spec
from distillrun.plan.model import StageName

OUTPUT_VERSION: dict[StageName, int] = {"curate": 1, "train": 1, "evaluate": 1, "serve": 1}


def fingerprint(spec: Spec, stage: StageName, upstream: str) -> str:
    """64 hex digits for `stage`; `upstream` is the fingerprint of the stage before it ("" for curate)."""
    what = {
        "stage": stage,
        "outputVersion": OUTPUT_VERSION[stage],
        "upstream": upstream,
        "seed": spec.seed,
        **_DETERMINANTS[stage](spec),
    }
    canonical = json.dumps(what, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _curate(spec: Spec) -> dict[str, Any]:
    endpoint = spec.teacher_model.endpoint
    return {
        "teacher": {"url": endpoint.url, "model": endpoint.model},
        "sources": [_dump(source, "secret_name") for source in spec.curate.sources],
        "generate": _dump(spec.curate.generate),
        "verify": _dump(spec.curate.verify),
    }


def _train(spec: Spec) -> dict[str, Any]:
    return {
        "student": _dump(spec.student.model, "secret_name"),
        "traceFormat": spec.curate.trace_format,
        "systemPrompt": spec.curate.system_prompt,
        "train": _dump(spec.train, "pod", "checkpoint"),
    }


def _evaluate(spec: Spec) -> dict[str, Any]:
    assert spec.evaluate is not None
    return {
        "student": _dump(spec.student.model, "secret_name"),
        "traceFormat": spec.curate.trace_format,
        "systemPrompt": spec.curate.system_prompt,
        "benchmarks": [_dump(benchmark, "secret_name") for benchmark in spec.evaluate.benchmarks],
        "engine": _dump(spec.evaluate.engine, "max_concurrency"),
        "alsoBaseModel": spec.evaluate.also_base_model,
    }


def _serve(spec: Spec) -> dict[str, Any]:
    assert spec.serve is not None
    return {"engine": _dump(spec.serve.engine)}


_DETERMINANTS = {"curate": _curate, "train": _train, "evaluate": _evaluate, "serve": _serve}


def _dump(model: Any, *without: str) -> dict[str, Any]:
    dumped: dict[str, Any] = model.model_dump(by_alias=True, mode="json", exclude=set(without))
    return dumped
