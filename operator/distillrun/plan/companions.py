"""Servers that a stage needs beside its Job and that exist only while it does: its companions.

The sandbox judges code that models wrote, where curation verifies code or a benchmark's grader is Code. Two stages may
need it, one after the other; each has it started anew.
"""

from __future__ import annotations

from dataclasses import dataclass

from distillrun.api.v1alpha1 import Spec
from distillrun.plan import names
from distillrun.plan.model import StageName

SANDBOX = "sandbox"
PORT = 8000
"""What every companion listens on, its Service too: a NetworkPolicy sees the pods' port."""
JUDGED: tuple[StageName, ...] = ("curate", "evaluate")
"""Stages that may have code judged."""
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

    def url(self, namespace: str) -> str:
        """Where it answers."""
        return f"http://{self.name}.{namespace}.svc:{PORT}"


def needed(run: str, spec: Spec, stage: StageName) -> tuple[Companion, ...]:
    """What must answer before the stage's Job is made."""
    judge = sandbox(run, spec, stage)
    return (judge,) if judge is not None else ()


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
