"""The status of a DistillRun. Written by the operator only; stays under 16 KB."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from distillrun.api.base import MAP_BY_NAME, ApiModel, Time

Phase = Literal["Pending", "Curating", "Training", "Evaluating", "Serving", "Succeeded", "Failed"]
StageState = Literal["Pending", "Running", "Succeeded", "Failed", "Skipped"]
Text = Annotated[str, Field(max_length=2048)]
Number = Annotated[str, Field(max_length=32)]
"""A decimal number as a string."""
Numbers = Annotated[dict[str, Number], Field(max_length=48)]


class Condition(ApiModel):
    """As metav1.Condition."""

    type: Annotated[str, Field(max_length=64)] = Field(description="What it is about.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Annotated[str, Field(max_length=128)] = Field(description="Why, as a constant for programs.")
    message: Text = Field(default="", description="Why, as a sentence for people.")
    last_transition_time: Time = Field(description="When `status` last changed.")
    observed_generation: int = Field(default=0, description="Generation of the spec that it was decided for.")


class Progress(ApiModel):
    """How far a stage is, as its first pod said last."""

    done: int = Field(default=0, description="Units done.")
    total: int = Field(default=0, description="Units to do.")
    unit: Annotated[str, Field(max_length=32)] = Field(default="", description="What is counted.")
    rate: Number = Field(default="0", description="Units a second.")
    eta_seconds: int | None = Field(default=None, description="Seconds to go at that rate.")
    numbers: Numbers = Field(default_factory=dict, description="The stage's headline numbers: loss, accepted, …")
    time: Time | None = Field(default=None, description="When this was written.")


class LastCheckpoint(ApiModel):
    """The newest complete checkpoint."""

    step: int = Field(description="Optimizer step.")
    time: Time = Field(description="When it was complete.")


class StageCost(ApiModel):
    """What a stage has used."""

    amount: Number = Field(default="0", description="Cost in the run's currency.")
    gpu_seconds: Number = Field(default="0", description="GPU-seconds of all its pods, node assignment to end.")
    settled_gpu_seconds: Number = Field(default="0", description="The part of attempts that have ended.")
    estimated: bool = Field(default=False, description="Whether evidence was gone and the upper bound was taken.")


class Stage(ApiModel):
    """One stage of the run."""

    name: Literal["curate", "train", "evaluate", "serve"] = Field(description="Which.")
    state: StageState = Field(default="Pending", description="Where it stands.")
    fingerprint: Annotated[str, Field(max_length=64)] = Field(default="", description="Hash of all that it depends on.")
    attempt: int = Field(default=0, description="Attempts begun.")
    failures: int = Field(default=0, description="Attempts that failed by a fault.")
    preemptions: int = Field(default=0, description="Attempts that ended by a disruption: preempted, evicted, drained.")
    job_name: Annotated[str, Field(max_length=63)] = Field(default="", description="Job or Deployment of the attempt.")
    start_time: Time | None = Field(default=None, description="When its first pod began to run.")
    completion_time: Time | None = Field(default=None, description="When it ended.")
    retry_time: Time | None = Field(default=None, description="Not before this does the next attempt begin.")
    artifact: Annotated[str, Field(max_length=1024)] = Field(default="", description="URI of what it made.")
    progress: Progress | None = Field(default=None, description="How far it is.")
    last_checkpoint: LastCheckpoint | None = Field(default=None, description="The newest complete checkpoint.")
    cost: StageCost | None = Field(default=None, description="What it has used.")
    results: Numbers = Field(default_factory=dict, description="Headline numbers of the finished stage.")
    reason: Annotated[str, Field(max_length=128)] = Field(default="", description="Why it waits or failed, constant.")
    message: Text = Field(default="", description="Why it waits or failed, sentence.")


class Cost(ApiModel):
    """What the run has used up to now."""

    spent: Number = Field(default="0", description="Cost of all stages in `currency`.")
    currency: Annotated[str, Field(max_length=3)] = Field(default="USD", description="ISO 4217 code.")
    gpu_seconds: Number = Field(default="0", description="GPU-seconds of all pods, node assignment to end.")


class Score(ApiModel):
    """One measured number."""

    benchmark: Annotated[str, Field(max_length=40)] = Field(description="Benchmark.")
    model: Annotated[str, Field(max_length=40)] = Field(description="student or base.")
    metric: Annotated[str, Field(max_length=40)] = Field(description="What was measured: accuracy.")
    value: Number = Field(description="From 0 to 1.")
    low: Number = Field(description="Lower end of the 95 % Wilson interval.")
    high: Number = Field(description="Upper end of it.")
    samples: int = Field(description="Questions asked.")


class Artifacts(ApiModel):
    """Where to find what the run made."""

    dataset: Annotated[str, Field(max_length=1024)] = Field(default="", description="Folder of the dataset.")
    model: Annotated[str, Field(max_length=1024)] = Field(default="", description="Folder of the trained model.")
    report: Annotated[str, Field(max_length=1024)] = Field(default="", description="Folder of the evaluation.")


class ServedEndpoint(ApiModel):
    """How to talk to the student."""

    url: Annotated[str, Field(max_length=1024)] = Field(description="Base URL of the OpenAI API, inside the cluster.")
    model: Annotated[str, Field(max_length=253)] = Field(description="Model name to ask for.")


class Status(ApiModel):
    """What the operator has seen and done."""

    observed_generation: int = Field(default=-1, description="Generation of the spec last acted on; -1: never.")
    phase: Phase | None = Field(default=None, description="Summary for people; programs read conditions.")
    stage: Annotated[str, Field(max_length=16)] = Field(default="", description="The stage at hand.")
    message: Text = Field(default="", description="What is going on, in a sentence.")
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        description="Ready, Reconciling, Stalled (kstatus), Curated, Trained, Evaluated, GatesPassed, Serving.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    stages: list[Stage] = Field(
        default_factory=list, max_length=4, description="One item a stage.", json_schema_extra=MAP_BY_NAME
    )
    progress: Annotated[str, Field(max_length=32)] = Field(default="", description="Progress of the stage, in percent.")
    score: Annotated[str, Field(max_length=32)] = Field(default="", description="The student's first score.")
    cost: Cost | None = Field(default=None, description="What the run has used.")
    scores: list[Score] = Field(
        default_factory=list,
        max_length=128,
        description="What was measured.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["benchmark", "model", "metric"],
        },
    )
    artifacts: Artifacts | None = Field(default=None, description="Where to find what the run made.")
    endpoint: ServedEndpoint | None = Field(default=None, description="How to talk to the student.")
