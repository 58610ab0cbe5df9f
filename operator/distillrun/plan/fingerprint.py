"""Fingerprints: SHA-256 over the canonical JSON of all that determines a stage's output, and of nothing else.

What only changes speed, place or patience (pods, concurrency, time-outs, checkpoint spacing, secrets' names) is left
out: changing it must not throw away a dataset that cost money. `outputVersion` is raised by hand when a stage's output
changes its meaning; answers that curations take over from each other have a number of their own (curate/request.py).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from distillrun.api.stages import Benchmark, Dataset, Source
from distillrun.api.status import Resolved
from distillrun.api.v1alpha1 import Model, Spec, StudentModel
from distillrun.plan.model import Run, StageName
from distillrun.plan.revisions import compared_with

OUTPUT_VERSION: dict[StageName, int] = {"resolve": 1, "curate": 2, "train": 1, "evaluate": 2, "serve": 1}


def fingerprint(run: Run, spec: Spec, stage: StageName, upstream: str, resolved: Resolved) -> str:
    """64 hex digits for `stage`; `upstream` is the fingerprint of the stage before it ("" for the first two).

    Inputs count by what they were resolved to: the same URI with other content is another input.
    """
    what = {
        "stage": stage,
        "outputVersion": OUTPUT_VERSION[stage],
        "upstream": upstream,
        "seed": spec.seed,
        **_DETERMINANTS[stage](run, spec, resolved),
    }
    canonical = json.dumps(what, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _resolve(run: Run, spec: Spec, resolved: Resolved) -> dict[str, Any]:
    """A run is resolved for itself: what another one found may have moved since."""
    return {
        "run": run.uid,
        "student": _dump(spec.student.model),
        "traceFormat": spec.curate.trace_format,
        "systemPrompt": spec.curate.system_prompt,
        "sources": [_dump(each) for each in spec.curate.inputs],
        "benchmarks": [_dump(benchmark) for benchmark in spec.evaluate.benchmarks] if spec.evaluate else [],
        "against": [_dump(each) for each in spec.curate.decontaminate.against],
    }


def _curate(run: Run, spec: Spec, resolved: Resolved) -> dict[str, Any]:
    if spec.curate.dataset is not None:
        dataset = spec.curate.dataset
        return {"dataset": _input(dataset, resolved.source(dataset.name)), "decontaminate": _against(spec, resolved)}
    assert spec.teacher_model is not None
    return {
        "teacher": _asked(spec.teacher_model),
        "sources": [_input(source, resolved.source(source.name)) for source in spec.curate.sources],
        "generate": _dump(spec.curate.generate),
        "verify": _dump(spec.curate.verify),
        "decontaminate": _against(spec, resolved),
        "deduplicate": _dump(spec.curate.deduplicate),
        "select": _dump(spec.curate.select),
        **_asked_besides(spec),
    }


def _asked(model: Model) -> dict[str, Any]:
    """A model that is asked: by its endpoint, or by what the run's own server loads, however many there are of it."""
    if model.endpoint is not None:
        return {"url": model.endpoint.url, "model": model.endpoint.model}
    assert model.server is not None
    engine = _dump(model.server.engine, "tensor_parallel")
    return {"model": _dump(model.server.model, "secret_name"), "engine": engine}


def _asked_besides(spec: Spec) -> dict[str, Any]:
    """The steps that ask other models, without those that are not there: a run without them keeps its fingerprint. What
    the run calls a model does not count."""
    models = {model.name: _asked(model) for model in spec.asked_models}
    difficulty, domains, rewrite = spec.curate.difficulty, spec.curate.domains, spec.curate.rewrite
    found: dict[str, Any] = {}
    if difficulty is not None:
        found["difficulty"] = {**_dump(difficulty), "models": [models[name] for name in difficulty.models]}
    if domains is not None:
        found["domains"] = {**_dump(domains), "model": models[domains.model] if domains.model else None}
    if rewrite is not None:
        found["rewrite"] = {**_dump(rewrite), "model": models[rewrite.model]}
    return found


def _against(spec: Spec, resolved: Resolved) -> list[Any]:
    """What questions are compared with: the data in any order, not how benchmarks are evaluated."""
    against = [
        {
            "uri": each.uri,
            "revision": compared_with(each, resolved) or each.revision,
            "split": each.split,
            "fields": _dump(each.fields),
        }
        for each in spec.decontaminated_against
    ]
    return [spec.curate.decontaminate.words, *sorted(against, key=lambda each: json.dumps(each, sort_keys=True))]


def _train(run: Run, spec: Spec, resolved: Resolved) -> dict[str, Any]:
    return {
        "student": _input(spec.student.model, resolved.student.revision),
        "traceFormat": spec.curate.trace_format,
        "systemPrompt": spec.curate.system_prompt,
        "train": _dump(spec.train, "pod", "checkpoint", "stall_timeout_seconds", "gpu_product"),
    }


def _evaluate(run: Run, spec: Spec, resolved: Resolved) -> dict[str, Any]:
    assert spec.evaluate is not None
    return {
        "student": _input(spec.student.model, resolved.student.revision),
        "traceFormat": spec.curate.trace_format,
        "systemPrompt": spec.curate.system_prompt,
        "benchmarks": [_input(each, resolved.benchmark(each.name)) for each in spec.evaluate.benchmarks],
        "engine": _dump(spec.evaluate.engine, "max_concurrency"),
        "alsoBaseModel": spec.evaluate.also_base_model,
    }


def _serve(run: Run, spec: Spec, resolved: Resolved) -> dict[str, Any]:
    assert spec.serve is not None
    return {"engine": _dump(spec.serve.engine)}


_DETERMINANTS = {"resolve": _resolve, "curate": _curate, "train": _train, "evaluate": _evaluate, "serve": _serve}


def _input(model: StudentModel | Source | Dataset | Benchmark, revision: str) -> dict[str, Any]:
    """A model or data: by what its revision was resolved to, not by what the spec calls it."""
    return {**_dump(model, "secret_name"), "revision": revision or model.revision}


def _dump(model: Any, *without: str) -> dict[str, Any]:
    dumped: dict[str, Any] = model.model_dump(by_alias=True, mode="json", exclude=set(without))
    return dumped
