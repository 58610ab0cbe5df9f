"""The configuration file of a stage container (stage.yaml): the whole of what a stage is told (docs/stages.md)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distillrun.api.asked import Difficulty, Rewrite
from distillrun.api.funnel import Against, QuestionFields
from distillrun.api.stages import Benchmark, Dataset, Engine, Fields, Source, TraceFields
from distillrun.api.status import Resolved
from distillrun.api.v1alpha1 import Model, Spec
from distillrun.plan import companions, names
from distillrun.plan.inputs import mirror_of
from distillrun.plan.model import Run, StageName
from distillrun.plan.revisions import compared_with, unchecked

API_VERSION = "distillrun.dev/stage/v1"
MOUNT = "/mnt/distillrun"
ROOT = f"file://{MOUNT}"
MASTER_PORT = 29500
SERVE_PORT = 8000
TEACHER_KEY_ENV = "DISTILLRUN_TEACHER_API_KEY"


@dataclass(frozen=True)
class Inputs:
    """What a stage builds on."""

    upstream: Mapping[StageName, str]
    """Artifacts' URIs of the stages that are done."""
    resolved: Resolved
    """What the spec's URIs were found to be."""


def output(run: Run, stage: StageName, fingerprint: str) -> str:
    """URI of the folder of a stage's artifacts; runs that share storage and fingerprint share it."""
    return f"{ROOT}/{run.namespace}/{stage}/{fingerprint}/"


def stage_config(
    run: Run, spec: Spec, stage: StageName, fingerprint: str, attempt: int, inputs: Inputs
) -> dict[str, Any]:
    """The whole file as a dict."""
    mirror = mirror_of(stage, spec)
    block = {"resolve": _resolve, "curate": _curate, "train": _train, "evaluate": _evaluate, "serve": _serve}[stage]
    return {
        "apiVersion": API_VERSION,
        "stage": stage,
        "run": {"namespace": run.namespace, "name": run.name, "uid": run.uid},
        "fingerprint": fingerprint,
        "attempt": attempt,
        "output": output(run, stage, fingerprint),
        "seed": spec.seed,
        "stallTimeoutSeconds": spec.train.stall_timeout_seconds if stage == "train" else None,
        "mirror": mirror.uri if mirror else None,
        stage: block(run, spec, fingerprint, attempt, inputs),
    }


def _resolve(run: Run, spec: Spec, fingerprint: str, attempt: int, inputs: Inputs) -> dict[str, Any]:
    """What is to be found. `pinned` is what the run has frozen already, and what stages have been computed from."""
    student = spec.student.model
    return {
        "student": {
            "uri": student.uri,
            "revision": student.revision,
            "pinned": inputs.resolved.student.revision or None,
        },
        "traceFormat": spec.curate.trace_format,
        "systemPrompt": spec.curate.system_prompt,
        "sources": [_wanted(source, inputs.resolved.source(source.name)) for source in spec.curate.sources],
        "dataset": _wanted(dataset, inputs.resolved.source(dataset.name)) if (dataset := spec.curate.dataset) else None,
        "benchmarks": [
            _wanted(benchmark, inputs.resolved.benchmark(benchmark.name))
            for benchmark in (spec.evaluate.benchmarks if spec.evaluate else [])
        ],
        "against": [
            {**_located(each, each.revision or ""), "pinned": inputs.resolved.compared_with(each.name) or None}
            for each in spec.curate.decontaminate.against
        ],
    }


def _wanted(item: Source | Dataset | Benchmark, pinned: str) -> dict[str, Any]:
    return {
        "name": item.name,
        "uri": item.uri,
        "split": item.split,
        "take": item.take,
        "fields": _fields(item.fields),
        "revision": item.revision,
        "pinned": pinned or None,
        **({"pick": item.pick, "filters": _filters(item)} if isinstance(item, Source) else {}),
    }


def _source(source: Source | Dataset, resolved: Resolved) -> dict[str, Any]:
    share = (
        {
            "pick": source.pick,
            "share": float(source.share) if source.share else None,
            "domain": source.domain,
            "filters": _filters(source),
        }
        if isinstance(source, Source)
        else {}
    )
    return {
        **_located(source, resolved.source(source.name)),
        "take": source.take,
        **share,
        "unchecked": unchecked(source.uri, source.revision),
    }


def _filters(source: Source) -> list[dict[str, Any]]:
    return [each.model_dump(by_alias=True, mode="json") for each in source.filters]


def _located(rows: Source | Dataset | Benchmark | Against, revision: str) -> dict[str, Any]:
    """Where rows are and how they are laid out; `revision`: what theirs was resolved to, "" where it was not."""
    return {
        "name": rows.name,
        "uri": rows.uri,
        "revision": revision or rows.revision,
        "split": rows.split,
        "fields": _fields(rows.fields),
    }


def _curate(run: Run, spec: Spec, fingerprint: str, attempt: int, inputs: Inputs) -> dict[str, Any]:
    if spec.curate.dataset is not None:
        return {
            "dataset": _source(spec.curate.dataset, inputs.resolved),
            "decontaminate": _decontaminate(spec, inputs.resolved),
        }
    teacher = spec.teacher_model
    assert teacher is not None
    generate = spec.curate.generate
    return {
        "teacher": _asked(run, spec, teacher),
        "models": [_asked(run, spec, model) for model in spec.asked_models if model is not teacher],
        "sources": [_source(source, inputs.resolved) for source in spec.curate.sources],
        "generate": {
            "samples": generate.samples,
            "temperature": float(generate.temperature),
            "topP": float(generate.top_p),
            "maxTokens": generate.max_tokens,
            "systemPrompt": generate.system_prompt or None,
            "reasoningDelimiters": (d := generate.reasoning_delimiters) and d.model_dump(by_alias=True),
        },
        "verify": {"timeoutSeconds": spec.curate.verify.timeout_seconds, "wrong": spec.curate.verify.wrong},
        "decontaminate": _decontaminate(spec, inputs.resolved),
        "deduplicate": {
            "exact": spec.curate.deduplicate.exact,
            "near": float(spec.curate.deduplicate.near) if spec.curate.deduplicate.near else None,
        },
        "difficulty": _numeric(spec.curate.difficulty, {"minPassRate": 0.0, "maxPassRate": 1.0}),
        "domains": spec.curate.domains.model_dump(by_alias=True, mode="json") if spec.curate.domains else None,
        "rewrite": _numeric(spec.curate.rewrite, {}),
        "select": spec.curate.select.model_dump(by_alias=True, mode="json"),
        "sandbox": _sandbox(run, spec, "curate"),
    }


def _asked(run: Run, spec: Spec, model: Model) -> dict[str, Any]:
    """How a model is asked: at its endpoint, or at the server that the run has for it."""
    terms = model.terms.reference if model.terms else None
    server = companions.model_server(run.name, spec, model)
    if server is not None and model.server is not None:
        return {
            "name": model.name,
            "url": f"{server.url(run.namespace)}/v1",
            "model": model.name,
            "loads": server.loads,
            "maxConcurrency": model.server.max_concurrency,
            "requestTimeoutSeconds": model.server.request_timeout_seconds,
            "termsReference": terms,
        }
    endpoint = model.endpoint
    assert endpoint is not None
    key = endpoint.api_key_secret_ref
    return {
        "name": model.name,
        "url": endpoint.url,
        "model": endpoint.model,
        "maxConcurrency": endpoint.max_concurrency,
        "requestsPerMinute": endpoint.requests_per_minute,
        "requestsPerDay": endpoint.requests_per_day,
        "tokensPerMinute": endpoint.tokens_per_minute,
        "requestTimeoutSeconds": endpoint.request_timeout_seconds,
        "apiKey": {"secret": key.name, "key": key.key, "env": key_variable(spec, model)} if key else None,
        "termsReference": terms,
    }


def _sandbox(run: Run, spec: Spec, stage: StageName) -> dict[str, Any] | None:
    """Where the stage has code judged; None where it has no code to judge."""
    judge = companions.sandbox(run.name, spec, stage)
    return {"url": judge.url(run.namespace)} if judge is not None else None


def key_variable(spec: Spec, model: Model) -> str:
    """The environment variable of curation that holds a model's API key. A name has no underscore, so two models never
    share one."""
    if model.name == spec.teacher:
        return TEACHER_KEY_ENV
    return f"DISTILLRUN_API_KEY_{model.name.replace('-', '_').upper()}"


def _numeric(step: Difficulty | Rewrite | None, unset: dict[str, float]) -> dict[str, Any] | None:
    """A step with its decimals as numbers; `unset`: what they are where the spec says nothing."""
    if step is None:
        return None
    dumped = step.model_dump(by_alias=True, mode="json")
    decimals = ("temperature", *unset)
    return {**dumped, **{name: float(dumped[name] or unset.get(name, 0.0)) for name in decimals}}


def _decontaminate(spec: Spec, resolved: Resolved) -> dict[str, Any]:
    """All of each benchmark's file, however much of it the evaluation takes: another `take` is no other dataset."""
    settings = spec.curate.decontaminate
    return {
        "words": settings.words,
        "against": [_located(each, compared_with(each, resolved)) for each in spec.decontaminated_against],
    }


def _train(run: Run, spec: Spec, fingerprint: str, attempt: int, inputs: Inputs) -> dict[str, Any]:
    train = spec.train
    host = f"{names.job(run.name, 'train', fingerprint, attempt)}-0"
    epochs = None if train.max_steps else float(train.epochs or "3")
    return {
        "student": _student(spec, inputs.resolved),
        "dataset": inputs.upstream["curate"],
        "traceFormat": spec.curate.trace_format,
        "systemPrompt": spec.curate.system_prompt,
        "distributed": {
            "nodes": train.nodes,
            "processesPerNode": train.gpus_per_node,
            "masterAddress": f"{host}.{names.rendezvous(run.name)}" if train.nodes > 1 else "127.0.0.1",
            "masterPort": MASTER_PORT,
        },
        "epochs": epochs,
        "maxSteps": train.max_steps,
        "learningRate": float(train.learning_rate),
        "schedule": train.schedule,
        "warmupRatio": float(train.warmup_ratio),
        "weightDecay": float(train.weight_decay),
        "betas": [float(beta) for beta in train.betas],
        "globalBatchSize": train.global_batch_size,
        "microBatchSize": train.micro_batch_size,
        "maxGradNorm": float(train.max_grad_norm),
        "maxSequenceLength": train.max_sequence_length,
        "onOverlong": train.on_overlong,
        "lossOn": train.loss_on,
        "lossNormalization": train.loss_normalization,
        "precision": train.precision,
        "gradientCheckpointing": train.gradient_checkpointing,
        "deepspeed": {
            "zeroStage": train.deepspeed.zero_stage,
            "offloadOptimizer": train.deepspeed.offload_optimizer,
            "offloadParameters": train.deepspeed.offload_parameters,
            "config": train.deepspeed.config,
        },
        "checkpoint": {"everySteps": train.checkpoint.every_steps, "keep": train.checkpoint.keep},
        "trainerArgs": train.trainer_args,
    }


def _evaluate(run: Run, spec: Spec, fingerprint: str, attempt: int, inputs: Inputs) -> dict[str, Any]:
    evaluate = spec.evaluate
    assert evaluate is not None
    models = [{"name": "student", "uri": trained_model(inputs.upstream["train"]), "revision": None}]
    if evaluate.also_base_model:
        models.append({"name": "base", **_student(spec, inputs.resolved)})
    return {
        "models": models,
        "benchmarks": [
            {
                **_located(benchmark, inputs.resolved.benchmark(benchmark.name)),
                "take": benchmark.take,
                "samples": benchmark.samples,
                "temperature": float(benchmark.temperature),
                "topP": float(benchmark.top_p),
                "maxTokens": benchmark.max_tokens,
                "grader": benchmark.grader,
            }
            for benchmark in evaluate.benchmarks
        ],
        "engine": {**_engine(evaluate.engine), "maxConcurrency": evaluate.engine.max_concurrency},
        "sandbox": _sandbox(run, spec, "evaluate"),
        "traceFormat": spec.curate.trace_format,
        "systemPrompt": spec.curate.system_prompt,
    }


def _serve(run: Run, spec: Spec, fingerprint: str, attempt: int, inputs: Inputs) -> dict[str, Any]:
    assert spec.serve is not None
    return {
        "model": trained_model(inputs.upstream["train"]),
        "servedModelName": run.name,
        "port": SERVE_PORT,
        "engine": _engine(spec.serve.engine),
    }


def model_server_config(run: Run, spec: Spec, companion: companions.Companion) -> dict[str, Any]:
    """The file of a companion that serves a model: that of the serve stage, for another model."""
    assert companion.model is not None
    assert companion.model.server is not None
    return {
        "apiVersion": API_VERSION,
        "stage": "serve",
        "run": {"namespace": run.namespace, "name": run.name, "uid": run.uid},
        "fingerprint": hashlib.sha256(companion.name.encode()).hexdigest(),
        "attempt": 1,
        "output": f"{ROOT}/{run.namespace}/model/{companion.name}/",
        "seed": spec.seed,
        "stallTimeoutSeconds": None,
        "serve": {
            **companions.model_of(companion.model.server),
            "servedModelName": companion.model.name,
            "port": companions.PORT,
        },
    }


def server_config_name(run: Run, config: dict[str, Any]) -> str:
    """Name of a model server's ConfigMap: it changes with its content, so that a change rolls the Deployment out."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    return names.child(run.name, "serve", digest[:8])


def trained_model(artifact: str) -> str:
    """URI of the model that a training's artifact folder holds."""
    return f"{artifact.rstrip('/')}/model"


def _student(spec: Spec, resolved: Resolved) -> dict[str, Any]:
    return {"uri": spec.student.model.uri, "revision": resolved.student.revision or spec.student.model.revision}


def _fields(fields: Fields | TraceFields | QuestionFields) -> dict[str, Any]:
    if isinstance(fields, QuestionFields):
        return {**fields.model_dump(by_alias=True, mode="json"), "answered": False}
    return {**fields.model_dump(by_alias=True, mode="json"), "id": fields.id or None}


def _engine(engine: Engine) -> dict[str, Any]:
    return {
        "tensorParallel": engine.tensor_parallel,
        "maxModelLength": engine.max_model_length,
        "vllmArgs": list(engine.vllm_args),
    }
