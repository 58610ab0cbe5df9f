"""Servers that a stage needs beside its Job and that exist only while it does: its companions.

- The sandbox judges code that models wrote, where curation verifies code or a benchmark's grader is Code. Two stages
  may need it, one after the other; each has it started anew.
- A model server answers for an item of `models` that has `server` instead of an endpoint.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from distillrun.api.servers import ModelServer
from distillrun.api.v1alpha1 import Model, Spec
from distillrun.plan import names
from distillrun.plan.model import StageName

SANDBOX = "sandbox"
MODEL = "model-"
"""Begin of a model server's label; the model's name follows."""
PORT = 8000
"""What every companion listens on, its Service too: a NetworkPolicy sees the pods' port."""
_CODE_LAYOUTS = ("CodeTests", "HumanEval")


@dataclass(frozen=True)
class Companion:
    """One server of a stage: a Deployment and a Service of one name."""

    label: str
    """Value of the label distillrun.dev/stage of its pods."""
    name: str
    what: str
    """What it is, for messages: "the sandbox"."""
    memory_field: str
    """The field of the spec that gives its pods more memory."""
    replicas: int
    gpus: int = 0
    """Of each pod."""
    model: Model | None = None
    """Of a model server."""
    loads: str = ""
    """Identifies what a model server loads and how, 64 hex digits."""

    def url(self, namespace: str) -> str:
        """Where it answers."""
        return f"http://{self.name}.{namespace}.svc:{PORT}"


def needed(run: str, spec: Spec, stage: StageName) -> tuple[Companion, ...]:
    """What must answer before the stage's Job is made."""
    found = [sandbox(run, spec, stage)]
    if stage == "curate":
        found += [model_server(run, spec, model) for model in spec.asked_models]
    return tuple(each for each in found if each is not None)


def sandbox(run: str, spec: Spec, stage: StageName) -> Companion | None:
    """The judge of code, where the stage has code to judge."""
    if stage == "curate":
        code = any(source.fields.layout in _CODE_LAYOUTS for source in spec.curate.sources)
    else:
        benchmarks = spec.evaluate.benchmarks if stage == "evaluate" and spec.evaluate else []
        code = any(benchmark.grader == "Code" for benchmark in benchmarks)
    if not code:
        return None
    return Companion(SANDBOX, names.sandbox(run), "the sandbox", "sandbox.memory", spec.sandbox.replicas)


def model_server(run: str, spec: Spec, model: Model) -> Companion | None:
    """The server of a model; None of one with an endpoint.

    Its name has a hash of what it loads: another model is another server, and none is taken for the one before.
    """
    if model.server is None:
        return None
    loads = hashlib.sha256(json.dumps([model_of(model.server), spec.seed], sort_keys=True).encode()).hexdigest()
    return Companion(
        label=f"{MODEL}{model.name}",
        name=names.model_server(run, model.name, loads),
        loads=loads,
        what=f"the server of model {model.name}",
        memory_field="server.pod.resources.limits.memory of the model",
        replicas=model.server.replicas,
        gpus=model.server.engine.tensor_parallel,
        model=model,
    )


def model_of(server: ModelServer) -> dict[str, object]:
    """What a server loads and how, as its configuration has it."""
    return {
        "model": server.model.uri,
        "revision": server.model.revision,
        "engine": {
            "tensorParallel": server.engine.tensor_parallel,
            "maxModelLength": server.engine.max_model_length,
            "vllmArgs": list(server.engine.vllm_args),
        },
    }


def named(run: str, spec: Spec, label: str) -> Companion:
    """The companion of that label. Raises LookupError where the run has none."""
    found = {each.label: each for stage in callers(label) for each in needed(run, spec, stage)}
    return found[label]


def callers(label: str) -> tuple[StageName, ...]:
    """Stages that may call a companion."""
    return ("curate", "evaluate") if label == SANDBOX else ("curate",)
