"""What each stage reads, and from where: the hub or the mirror in its place."""

from __future__ import annotations

from distillrun.api.funnel import Against
from distillrun.api.stages import Benchmark, Dataset, Source
from distillrun.api.v1alpha1 import Mirror, Spec, StudentModel
from distillrun.plan.model import Settings, StageName

Input = StudentModel | Source | Dataset | Benchmark | Against


def read_by(stage: StageName, spec: Spec) -> list[Input]:
    """The models and data that a stage reads by their URIs; what earlier stages made is not among them."""
    benchmarks: list[Input] = list(spec.evaluate.benchmarks) if spec.evaluate else []
    student: list[Input] = [spec.student.model]
    if stage == "resolve":
        return [*spec.curate.inputs, *student, *benchmarks, *spec.curate.decontaminate.against]
    if stage == "curate":
        return [*spec.curate.inputs, *spec.decontaminated_against]
    if stage == "train":
        return student
    if stage == "evaluate" and spec.evaluate is not None:
        return [*(student if spec.evaluate.also_base_model else []), *benchmarks]
    return []


def mirror_of(stage: StageName, spec: Spec) -> Mirror | None:
    """The mirror that a stage needs: only one that reads something of the hub does."""
    return spec.mirror if any(each.uri.startswith("hf://") for each in read_by(stage, spec)) else None


def mirrored(spec: Spec, settings: Settings) -> Spec:
    """The spec with the administrator's mirror where it names none of its own."""
    if spec.mirror is not None or not settings.mirror:
        return spec
    return spec.model_copy(update={"mirror": Mirror(uri=settings.mirror)})
