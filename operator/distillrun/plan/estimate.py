"""Time and cost of a training before it starts, with the method and its errors in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from distillrun.api.v1alpha1 import Spec
from distillrun.plan import cost, dimensions, gpus, steptime, trainsetup, workload
from distillrun.plan.dimensions import Dimensions
from distillrun.plan.steptime import Work


@dataclass(frozen=True)
class Estimate:
    """What the train stage will take when nothing interrupts it."""

    seconds: int
    gpu_seconds: int
    amount: str
    """Cost in the run's currency, as a decimal."""
    tokens: int
    """Trained on, all epochs."""
    steps: int
    method: str
    """How it was computed, how far off the method was where it can be checked, and what is left out."""


def of(spec: Spec, resolved: Mapping[str, Any] | None, curated: Mapping[str, str], price: Decimal) -> Estimate | None:
    """The estimate of training on the dataset that curation made, at a price of a GPU hour; before there is one
    (`curated` is empty) the most that it can come to. None where the student's dimensions, the GPU
    (`train.gpuProduct`), or the dataset's examples and tokens are not known."""
    student = dimensions.read(resolved)
    gpu = gpus.find(spec.train.gpu_product)
    known = bool(curated)
    curated = curated or workload.bound(spec, resolved)
    examples, tokens = workload.examples(curated), workload.tokens(curated)
    if not isinstance(student, Dimensions) or gpu is None or not examples or not tokens:
        return None
    work = _work(spec, student, gpu, examples, tokens, curated)
    count = workload.steps(spec.train, examples)
    seconds = count * steptime.seconds(work, steptime.published())
    gpu_seconds = seconds * work.ranks
    return Estimate(
        seconds=round(seconds),
        gpu_seconds=round(gpu_seconds),
        amount=cost.amount(gpu_seconds, str(price)),
        tokens=round(count * work.tokens),
        steps=count,
        method=method(work) if known else f"{_most(examples, tokens)} {method(work)}",
    )


def _most(examples: int, tokens: int) -> str:
    """The sentence before the method's while the dataset is not there."""
    return (
        f"At most, before there is a dataset: all {examples} answers accepted, each of {tokens // examples} tokens"
        " (curate.generate.maxTokens, train.maxSequenceLength)."
    )


def _work(
    spec: Spec, student: Dimensions, gpu: gpus.Gpu, examples: int, tokens: int, curated: Mapping[str, str]
) -> Work:
    setup = trainsetup.of(spec.train, workload.whole(curated, "longestTokens"))
    return Work(
        parameters=student.parameters,
        layers=student.layers,
        width=student.queries,
        gpu=gpu,
        nodes=setup.nodes,
        gpus_per_node=setup.gpus_per_node,
        micro_batch=setup.micro_batch,
        accumulation=setup.accumulation,
        mean_tokens=min(tokens / examples, setup.sequence),
        spread=_spread(examples, tokens, workload.whole(curated, "datasetSquaredTokens")),
        longest=setup.sequence,
        element=setup.element,
        recompute=setup.checkpointing,
        sharded=setup.zero_stage == 3,
        offload_optimizer=setup.offload_optimizer,
        offload_parameters=setup.offload_parameters,
        accumulator=setup.accumulator,
    )


def _spread(examples: int, tokens: int, squared: int | None) -> float:
    """Coefficient of variation from the sum of squares of the examples' lengths; the usual one where it is unknown."""
    if squared is None:
        return steptime.SPREAD
    return math.sqrt(max(examples * squared / tokens**2 - 1, 0.0))


def method(work: Work) -> str:
    """The sentence that is printed with the figure."""
    fit = steptime.published()
    errors = ", ".join(f"{name} {error:+.0%}" for name, error in steptime.leave_one_out().items())
    offloading = f" and offloading at {fit.offloading:.1f} times its data-sheet time" if work.offload_optimizer else ""
    return (
        f"Steps of (8 or 6) × parameters × tokens operations and attention at {fit.efficiency:.0%} of the GPU's bf16 "
        f"peak, the slowest rank waited for{offloading}; fitted to the published s1, Sky-T1 and torchtitan runs, "
        f"each predicted from the other two with an error in time of {errors}. Start-up, checkpoints, curation and "
        "evaluation are left out."
    )
