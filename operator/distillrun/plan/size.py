"""How many pods one attempt at a stage has, and how many GPUs each of them: what is asked for is what is billed."""

from __future__ import annotations

from distillrun.api.v1alpha1 import Spec
from distillrun.plan.model import StageName


def pods(spec: Spec, stage: StageName) -> int:
    """Pods of one attempt at a stage that runs as a Job."""
    return spec.train.nodes if stage == "train" else 1


def gpus(spec: Spec, stage: StageName) -> int:
    """GPUs of one pod of the stage."""
    if stage == "train":
        return spec.train.gpus_per_node
    if stage == "evaluate" and spec.evaluate is not None:
        return spec.evaluate.engine.tensor_parallel
    if stage == "serve" and spec.serve is not None:
        return spec.serve.engine.tensor_parallel
    return 0
