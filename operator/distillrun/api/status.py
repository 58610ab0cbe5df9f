"""The status of a DistillRun. Written by the operator only; stays under 16 KB."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from distillrun.api.base import MAP_BY_NAME, ApiModel, Time

Phase = Literal[
    "Pending", "Suspended", "Resolving", "Curating", "Training", "Evaluating", "Serving", "Succeeded", "Failed"
]
StageState = Literal["Pending", "Running", "Succeeded", "Failed", "Skipped", "Reused"]
DONE: tuple[StageState, ...] = ("Succeeded", "Reused")
"""States of a stage whose result later stages build on."""
ENDED: tuple[StageState, ...] = (*DONE, "Failed")
"""States in which a stage is over."""
Text = Annotated[str, Field(max_length=2048)]
Number = Annotated[str, Field(max_length=32)]
"""A decimal number as a string."""
Amount = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?$", max_length=32)]
"""A number, not negative, that later passes calculate with."""
LARGEST = 10**15 - 1
"""No cost and no time is larger: later passes calculate with it, and it stays within the digits of their arithmetic."""
Tally = Annotated[str, Field(pattern=r"^[0-9]{1,15}(\.[0-9]{1,4})?$")]
"""A cost or GPU-seconds, summed up over passes."""
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
    rate: Amount = Field(default="0", description="Units a second.")
    eta_seconds: int | None = Field(default=None, description="Seconds to go at that rate.")
    numbers: Numbers = Field(default_factory=dict, description="The stage's headline numbers: loss, accepted, …")
    time: Time | None = Field(default=None, description="When this was written.")
    moved_time: Time | None = Field(default=None, description="When `done` last changed.")


class LastCheckpoint(ApiModel):
    """The newest complete checkpoint."""

    step: int = Field(description="Optimizer step.")
    time: Time = Field(description="When it was complete.")


class Asked(ApiModel):
    """Tokens that a provider bills for one dataset."""

    dataset: Annotated[str, Field(max_length=16)] = Field(
        description="Begin of the dataset's fingerprint; empty: the oldest ones together."
    )
    input: Annotated[int, Field(ge=0, le=2**53)] = Field(default=0, description="Tokens of prompts.")
    output: Annotated[int, Field(ge=0, le=2**53)] = Field(default=0, description="Tokens of answers.")
    amount: Tally = Field(default="0", description="Their cost in the run's currency.")


LEDGER = 96
"""Pods that a ledger holds: those that hold GPUs (64 replicas at most), then those that ended last."""


class MeteredPod(ApiModel):
    """One pod of a model server."""

    pod: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$", max_length=12)] = Field(
        description="Begin of the SHA-256 of its UID."
    )
    gpus: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        description="GPUs that it holds; 0: it has ended and is settled."
    )
    since: Time = Field(description="When it got its node; of one that has ended: when that was.")


class ServingCost(ApiModel):
    """What model servers have used."""

    spent: Tally = Field(default="0", description="Cost in the run's currency.")
    gpu_seconds: Tally = Field(default="0", description="GPU-seconds of all pods, node assignment to end.")
    settled_gpu_seconds: Tally = Field(default="0", description="The part of pods that have ended.")
    estimated: bool = Field(default=False, description="Whether evidence was gone and the upper bound was taken.")
    pods: list[MeteredPod] = Field(
        default_factory=list,
        max_length=LEDGER,
        description="The ledger: pods that are counted up to now, and pods that are settled and still there.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["pod"]},
    )
    forgotten: Time | None = Field(
        default=None, description="Pods that ended up to then and are not in the ledger have been counted."
    )
    time: Time = Field(description="When this was written.")


class StageCost(ApiModel):
    """What a stage has used."""

    amount: Tally = Field(default="0", description="Cost in the run's currency, GPU time and asking.")
    asking: Tally = Field(default="0", description="The part of it that asking a model has cost.")
    asked: list[Asked] = Field(
        default_factory=list,
        max_length=9,
        description="Tokens by dataset, over all attempts.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["dataset"]},
    )
    gpu_seconds: Tally = Field(default="0", description="GPU-seconds of all its pods, node assignment to end.")
    settled_gpu_seconds: Tally = Field(default="0", description="The part of attempts that have ended.")
    estimated: bool = Field(default=False, description="Whether evidence was gone and the upper bound was taken.")
    since: Time | None = Field(
        default=None, description="When the first GPU of the attempt at hand was taken; unset: none was yet."
    )
    servers: ServingCost | None = Field(
        default=None,
        description="The part of it that model servers of the run have used for the stage, until they are gone.",
    )


class Stage(ApiModel):
    """One stage of the run."""

    name: Literal["resolve", "curate", "train", "evaluate", "serve"] = Field(description="Which.")
    state: StageState = Field(default="Pending", description="Where it stands.")
    fingerprint: Annotated[str, Field(max_length=64)] = Field(default="", description="Hash of all that it depends on.")
    attempt: int = Field(default=0, description="Attempts begun.")
    failures: int = Field(default=0, description="Attempts that failed by a fault.")
    preemptions: int = Field(default=0, description="Attempts that ended by a disruption: preempted, evicted, drained.")
    releases: int = Field(default=0, description="Attempts let go because some of their pods could not start.")
    job_name: Annotated[str, Field(max_length=63)] = Field(default="", description="Job or Deployment of the attempt.")
    job_time: Time | None = Field(default=None, description="When the Job of the attempt at hand was made.")
    start_time: Time | None = Field(default=None, description="When its first pod began to run.")
    completion_time: Time | None = Field(default=None, description="When it ended.")
    retry_time: Time | None = Field(default=None, description="Not before this does the next attempt begin.")
    artifact: Annotated[str, Field(max_length=1024)] = Field(default="", description="URI of what it made.")
    reused_from: Annotated[str, Field(max_length=320)] = Field(
        default="", description="namespace/name of the run that made it, when this one only took it over."
    )
    progress: Progress | None = Field(default=None, description="How far it is.")
    last_checkpoint: LastCheckpoint | None = Field(default=None, description="The newest complete checkpoint.")
    cost: StageCost | None = Field(default=None, description="What it has used.")
    results: Numbers = Field(default_factory=dict, description="Headline numbers of the finished stage.")
    reason: Annotated[str, Field(max_length=128)] = Field(default="", description="Why it waits or failed, constant.")
    message: Text = Field(default="", description="Why it waits or failed, sentence.")


class Cost(ApiModel):
    """What the run has used up to now, and what it was expected to use."""

    estimated: Annotated[str, Field(pattern=r"^([0-9]{1,15}(\.[0-9]{1,4})?)?$")] = Field(
        default="", description="Expected cost of training in `currency`; empty: neither it nor a price is known."
    )
    estimated_seconds: int | None = Field(default=None, description="Expected seconds of training.")
    method: Annotated[str, Field(max_length=1024)] = Field(
        default="",
        description="How the estimate was made. Before there is a dataset it is an upper bound, and says so.",
    )
    spent: Tally = Field(default="0", description="Cost of all stages before serving in `currency`.")
    asking: Tally = Field(default="0", description="The part of `spent` that asking models has cost.")
    currency: Annotated[str, Field(max_length=3)] = Field(default="USD", description="ISO 4217 code.")
    price_from: Literal["Run", "PriceBook", "General", "Unknown"] | None = Field(
        default=None,
        description="Whose price of a GPU hour this goes by: the run's own; the operator's price book's; its general"
        " one, an estimate for a product that the book does not list; or Unknown: costs are counted as 0.",
    )
    gpu_seconds: Tally = Field(default="0", description="GPU-seconds of their pods, node assignment to end.")
    serving: ServingCost | None = Field(
        default=None,
        description="What serving has used beside that, never counted against `budget.limit`; unset: no GPU was held.",
    )


class Score(ApiModel):
    """One measured number."""

    benchmark: Annotated[str, Field(max_length=40)] = Field(description="Benchmark.")
    model: Annotated[str, Field(max_length=40)] = Field(description="student or base.")
    metric: Annotated[str, Field(max_length=40)] = Field(description="What was measured: accuracy.")
    value: Amount = Field(description="From 0 to 1.")
    low: Amount = Field(description="Lower end of the 95 % Wilson interval.")
    high: Amount = Field(description="Upper end of it.")
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


MOST = 2**53
"""The largest count: beyond it, a JSON reader that knows only doubles would read another number."""
Count = Annotated[int, Field(ge=0, le=MOST)]


class Dimensions(ApiModel):
    """Sizes of a model, from its config.json; what is not known is left out."""

    model_type: Annotated[str, Field(max_length=64)] = Field(default="", description="Architecture.")
    hidden_size: Count | None = Field(default=None, description="Width.")
    layers: Count | None = Field(default=None, description="Transformer blocks.")
    heads: Count | None = Field(default=None, description="Attention heads.")
    kv_heads: Count | None = Field(default=None, description="Key and value heads.")
    head_dim: Count | None = Field(default=None, description="Width of a head.")
    intermediate_size: Count | None = Field(default=None, description="Width of the feed-forward layer.")
    vocab_size: Count | None = Field(default=None, description="Rows of the embedding.")
    tied_embeddings: bool | None = Field(default=None, description="Whether input and output share one matrix.")
    parameters: Count | None = Field(default=None, description="Parameters in all.")
    max_positions: Count | None = Field(default=None, description="Longest sequence that the model was made for.")
    dtype: Annotated[str, Field(max_length=32)] = Field(default="", description="Number format of its weights.")


Revision = Annotated[str, Field(max_length=128)]


class ResolvedModel(ApiModel):
    """The student as it was found."""

    revision: Revision = Field(default="", description="Commit of a hub model, or identity of a folder's content.")
    dimensions: Dimensions = Field(default_factory=Dimensions, description="Its sizes.")


class ResolvedInput(ApiModel):
    """A source or a benchmark as it was found."""

    name: Annotated[str, Field(max_length=40)] = Field(description="Its name in the spec.")
    revision: Revision = Field(default="", description="Commit of a hub dataset, or identity of the files' content.")
    rows: Count | None = Field(default=None, description="Rows; unset: too many to count.")
    unchecked: bool | None = Field(
        default=None,
        description="True: the spec names no commit of the hub's repository, so nobody has chosen this revision.",
    )


class Resolved(ApiModel):
    """What was found before anything cost money. Later stages use this and nothing else."""

    student: ResolvedModel = Field(default_factory=ResolvedModel, description="The model that learns.")
    sources: list[ResolvedInput] = Field(
        default_factory=list, max_length=32, description="Questions.", json_schema_extra=MAP_BY_NAME
    )
    benchmarks: list[ResolvedInput] = Field(
        default_factory=list, max_length=32, description="Benchmarks.", json_schema_extra=MAP_BY_NAME
    )
    images: Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=8)] = Field(
        default_factory=dict, description="The operator's images of that day, by stage."
    )
    gpu_hour_price: Amount | None = Field(
        default=None, description="Price of a GPU hour by the operator's price book; unset or 0: not frozen yet."
    )
    currency: Annotated[str, Field(max_length=3)] = Field(default="", description="Currency of that price.")

    def source(self, name: str) -> str:
        """Revision of a source, "" when it was not found."""
        return next((item.revision for item in self.sources if item.name == name), "")

    def benchmark(self, name: str) -> str:
        """Revision of a benchmark, "" when it was not found."""
        return next((item.revision for item in self.benchmarks if item.name == name), "")


class Status(ApiModel):
    """What the operator has seen and done."""

    observed_generation: int = Field(default=-1, description="Generation of the spec last acted on; -1: never.")
    phase: Phase | None = Field(default=None, description="Summary for people; programs read conditions.")
    stage: Annotated[str, Field(max_length=16)] = Field(default="", description="The stage at hand.")
    message: Text = Field(default="", description="What is going on, in a sentence.")
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        description="Ready, Reconciling, Stalled (kstatus), Suspended, Feasible, BudgetExceeded,"
        " MaxCostReached, Resolved, Curated, Trained, Evaluated, GatesPassed, Serving.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    stages: list[Stage] = Field(
        default_factory=list, max_length=5, description="One item a stage.", json_schema_extra=MAP_BY_NAME
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
    resolved: Resolved | None = Field(default=None, description="What was found before anything cost money.")
    observed_retry: int | None = Field(default=None, description="The value of spec.retry that was acted on.")
    active_since: Time | None = Field(
        default=None, description="Since when the run counts against its deadline; unset: suspended or past evaluation."
    )
    active_seconds: Count = Field(default=0, description="Seconds that counted before that.")
    finished_time: Time | None = Field(
        default=None,
        description="When the last stage before serving ended for good: ttlSecondsAfterFinished counts.",
    )
