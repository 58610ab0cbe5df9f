"""Disk space of a run's storage: checkpoints of the optimizer, and the trained model."""

from __future__ import annotations

from distillrun.plan.dimensions import Dimensions
from distillrun.plan.memory import Parts
from distillrun.plan.trainsetup import Setup


def checkpoint(d: Dimensions, s: Setup) -> int:
    """Bytes of one checkpoint: DeepSpeed's shards hold fp32 weights and two moments; below ZeRO-3 it saves the
    weights in the compute type too, once."""
    if s.zero_stage == 0:
        return (s.element + 8) * d.parameters
    return (12 + (s.element if s.zero_stage < 3 else 0)) * d.parameters


def disk(d: Dimensions, s: Setup, keep: int, every: int, steps: int | None = None) -> Parts:
    """The parts of the peak on the run's storage: `keep` whole checkpoints and the one being written, or `keep` and
    the model. `steps` is the whole training's where it is known: a short one writes fewer."""
    written = keep + 1 if steps is None else min(keep + 1, (steps - 1) // every)
    model = s.element * d.parameters
    before_model = written * checkpoint(d, s)
    at_model = min(written, keep) * checkpoint(d, s) + model
    if before_model > at_model:
        return Parts({"checkpoints": before_model})
    return Parts({"checkpoints": min(written, keep) * checkpoint(d, s), "model": model})
