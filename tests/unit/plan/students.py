"""Students, setups and specs for the tests of memory, feasibility and estimates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from distillrun.api.v1alpha1 import Spec
from distillrun.cli import knownmodels
from distillrun.plan import dimensions
from distillrun.plan.dimensions import Dimensions
from distillrun.plan.trainsetup import Setup
from tests.unit.builders import spec

H100 = "NVIDIA-H100-80GB-HBM3"


def resolved(name: str = "Qwen/Qwen2.5-32B", **changes: Any) -> dict[str, Any]:
    """`status.resolved` for a well-known student."""
    config = knownmodels.config(name)
    assert config is not None
    return {"student": {"revision": "abc", "dimensions": dimensions.of_config(config) | changes}}


def student(name: str = "Qwen/Qwen2.5-32B", **changes: Any) -> Dimensions:
    """Its dimensions."""
    found = dimensions.read(resolved(name, **changes))
    assert isinstance(found, Dimensions)
    return found


def setup(**changes: Any) -> Setup:
    """Sky-T1's: 8 GPUs, ZeRO-3, everything offloaded, 16,384 tokens, recomputed activations, bf16."""
    return replace(
        Setup(
            nodes=1,
            gpus_per_node=8,
            zero_stage=3,
            offload_optimizer=True,
            offload_parameters=True,
            global_batch=96,
            micro_batch=1,
            sequence=16384,
            checkpointing=True,
            element=2,
            accumulator=4,
        ),
        **changes,
    )


def run_spec(host: str | None = None, disk: str | None = None, product: str = H100, **train: Any) -> Spec:
    """Sky-T1 as a spec. `host` is the memory limit of a training pod, `disk` the claim's size."""
    block: dict[str, Any] = {
        "nodes": 1,
        "gpusPerNode": 8,
        "globalBatchSize": 96,
        "maxSequenceLength": 16384,
        "gpuProduct": product,
        "pod": {"resources": {"limits": {"memory": host} if host else {}}},
        **train,
    }
    storage: dict[str, Any] = {"claimName": "demo"}
    if disk:
        storage = {"claimTemplate": {"size": disk}}
    return Spec.model_validate(spec(storage=storage, train=block))
