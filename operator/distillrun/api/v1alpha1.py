"""DistillRun, `distillrun.dev/v1alpha1`: the spec. Everything about the schema is generated from these models."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from distillrun.api.base import MAP_BY_NAME, SET, ApiModel, Decimal, Name, ObjectName, rules
from distillrun.api.funnel import Against
from distillrun.api.pod import Quantity
from distillrun.api.servers import ModelServer, Sandbox, Weights
from distillrun.api.stages import Benchmark, Curate, Evaluate, Gate, SecretKey, Serve, Train
from distillrun.api.status import Status

MOST_SERVED = 3
"""Models that a run can serve itself, all at once."""
AccessMode = Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"]


class ClaimTemplate(ApiModel):
    """A volume claim that the operator makes for the run."""

    size: Quantity = Field(description='Size of the claim, e.g. "500Gi".')
    storage_class_name: str = Field(default="", max_length=253, description="Its StorageClass; empty: the default.")
    access_modes: list[AccessMode] = Field(
        default=["ReadWriteOnce"], min_length=1, max_length=3, description="As in core/v1.", json_schema_extra=SET
    )
    retention: Literal["Retain", "Delete"] = Field(
        default="Retain", description="Whether the claim outlives the run (no owner) or is deleted with it."
    )


class Storage(ApiModel):
    """Where artifacts are kept."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "has(self.claimName) != has(self.claimTemplate)",
                "storage needs exactly one of claimName and claimTemplate: set one and remove the other",
            )
        )
    }

    claim_name: ObjectName | None = Field(default=None, description="A volume claim that exists in the namespace.")
    claim_template: ClaimTemplate | None = Field(default=None, description="A claim that the operator makes.")


class Budget(ApiModel):
    """What GPU time costs, and what the run may cost, asking included, up to and including its evaluation."""

    limit: Decimal | None = Field(
        default=None, description='Most that the run may cost before it serves, e.g. "450"; unset: no limit.'
    )
    on_exceeded: Literal["Stop", "Warn"] = Field(
        default="Stop",
        description="At the limit: suspend the run until the limit is raised, or only say so (condition and event).",
    )
    gpu_hour_price: Decimal | None = Field(
        default=None, description='Price of one GPU for an hour, e.g. "2.96"; unset: the operator\'s price book.'
    )
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = Field(default="USD", description="ISO 4217 code.")


class Price(ApiModel):
    """What a provider bills for a million tokens, in the run's currency."""

    input: Decimal = Field(description='A million tokens of prompts, e.g. "1.25".')
    output: Decimal = Field(description='A million tokens of answers, their reasoning included, e.g. "10".')


class Endpoint(ApiModel):
    """An OpenAI-compatible API."""

    url: str = Field(
        pattern=r"^https?://[^\s?#]+$", max_length=1024, description="Base URL with version: https://example.com/v1."
    )
    model: str = Field(min_length=1, max_length=253, description="Model name in requests.")
    api_key_secret_ref: SecretKey | None = Field(default=None, description="Where the API key is; unset: no key.")
    max_concurrency: int = Field(default=64, ge=1, le=4096, description="Requests in flight at most.")
    price_per_million_tokens: Price | None = Field(
        default=None, description="What asking costs: part of status.cost and of the budget; unset: nothing is counted."
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Requests in any 60 seconds at most; unset: no limit."
    )
    requests_per_day: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="Requests in any 24 hours at most: then curation waits, without a pod; unset: no limit.",
    )
    tokens_per_minute: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="Tokens in any 60 seconds at most, prompts and answers; unset: no limit.",
    )
    request_timeout_seconds: int = Field(
        default=600, ge=1, le=86_400, description="How long one answer may take before it is asked for again."
    )


class Terms(ApiModel):
    """What the model's terms of use say about training on its answers."""

    training_permitted: bool = Field(description="Whether training a model on its answers is permitted.")
    reference: str = Field(min_length=1, max_length=1024, description="Where that is written: a URL or a contract.")


class Model(ApiModel):
    """A model that is asked something."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "has(self.endpoint) != has(self.server)",
                "a model needs exactly one of endpoint and server: set one and remove the other",
            )
        )
    }

    name: Name = Field(description="Name by which the run refers to it.")
    endpoint: Endpoint | None = Field(default=None, description="How it is reached, when somebody else serves it.")
    server: ModelServer | None = Field(
        default=None, description="How the run serves it itself, for as long as a stage asks it."
    )
    terms: Terms | None = Field(
        default=None, description="Required of a model with an endpoint whose answers are trained on."
    )

    @model_validator(mode="after")
    def _endpoint_or_server(self) -> Self:
        """As the schema's rule: a run may have been stored under a definition without it."""
        if (self.endpoint is None) == (self.server is None):
            raise ValueError("a model needs exactly one of endpoint and server: set one and remove the other")
        return self


class StudentModel(Weights):
    """The model that learns."""


class Mirror(ApiModel):
    """Where hf:// is read from when the hub itself is out of reach, or not to be asked."""

    uri: str = Field(
        pattern=r"^(https?://[^\s?#]+|(file:///|s3://).+)$",
        max_length=1024,
        description="A server with the hub's API, or a folder as `hf download --cache-dir` makes it (docs/data.md).",
    )
    secret_name: str = Field(
        default="", max_length=253, description="Secret whose keys become environment variables (HF_TOKEN, AWS_…)."
    )


class Student(ApiModel):
    """Who learns."""

    model: StudentModel = Field(description="The model to start from.")


class Spec(ApiModel):
    """What the user wants."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "!has(self.teacher) || has(self.models) && self.models.exists(m, m.name == self.teacher)",
                "spec.teacher names no item of spec.models: add the model or correct the name",
                "'spec.teacher \"' + self.teacher + '\" names no item of spec.models:"
                " add the model or correct the name'",
            ),
            (
                "has(self.teacher) != has(self.curate.dataset)",
                "spec.teacher is who is asked the questions of curate.sources, and a curate.dataset asks nobody:"
                " set teacher with sources, remove it with dataset",
            ),
            (
                "!has(self.teacher) || !has(self.models) || self.models.all("
                "m, m.name != self.teacher || has(m.server) || has(m.terms))",
                "the teacher's model needs terms: say in models[].terms whether training on its answers is permitted,"
                " and where that is written",
            ),
            (
                "!has(self.teacher) || !has(self.models)"
                " || self.models.all(m, m.name != self.teacher || !has(m.terms) || m.terms.trainingPermitted)",
                "the teacher's terms do not permit training on its answers (trainingPermitted: false):"
                " choose another teacher",
            ),
            (
                "!has(self.curate.difficulty) || self.curate.difficulty.models.all(n, has(self.models)"
                " && self.models.exists(m, m.name == n))",
                "each of curate.difficulty.models must be the name of one of spec.models: add it or correct the name",
            ),
            (
                "!has(self.curate.domains) || !has(self.curate.domains.model) || has(self.models)"
                " && self.models.exists(m, m.name == self.curate.domains.model)",
                "curate.domains.model must be the name of one of spec.models: add it or correct the name",
            ),
            (
                "!has(self.curate.rewrite) || has(self.models)"
                " && self.models.exists(m, m.name == self.curate.rewrite.model)",
                "curate.rewrite.model must be the name of one of spec.models: add it or correct the name",
            ),
            (
                "!has(self.curate.rewrite) || !has(self.models) || self.models.all(m,"
                " m.name != self.curate.rewrite.model || has(m.server) || has(m.terms) && m.terms.trainingPermitted)",
                "what curate.rewrite.model writes is trained on: its models[].terms must say that this is permitted"
                " (trainingPermitted: true), and where that is written",
            ),
            (
                f"!has(self.models) || self.models.filter(m, has(m.server)).size() <= {MOST_SERVED}",
                f"at most {MOST_SERVED} of spec.models can have a server: give the others an endpoint",
            ),
            (
                "!has(self.gates) || self.gates.size() == 0 || has(self.evaluate)",
                "spec.gates needs spec.evaluate: add the benchmarks that the gates name",
            ),
            (
                "!has(self.gates) || !has(self.evaluate)"
                " || self.gates.all(g, self.evaluate.benchmarks.exists(b, b.name == g.benchmark))",
                "each gate's benchmark must be the name of one of evaluate.benchmarks: correct the name",
            ),
            (
                "!has(self.gates) || self.gates.all(g, double(g.atLeast) <= 1.0)",
                'gates[].atLeast is a share from "0" to "1", not a percentage: write "0.95" for 95 %',
            ),
            (
                "self.train.nodes == 1 || !has(self.storage.claimTemplate)"
                " || 'ReadWriteMany' in self.storage.claimTemplate.accessModes",
                "train.nodes above 1 needs storage that all nodes can mount: add ReadWriteMany to"
                " storage.claimTemplate.accessModes",
            ),
        )
    }

    suspend: bool = Field(
        default=False,
        description="Stop everything that costs money and keep artifacts and status; false continues from checkpoints.",
    )
    retry: int = Field(
        default=0, ge=0, le=1_000_000, description="Raising it re-opens a run that has failed; nothing else does."
    )
    active_deadline_seconds: int | None = Field(
        default=None,
        ge=1,
        le=31_536_000,
        description="Longest time up to and including evaluation, less what the run was suspended; unset: no limit.",
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        le=31_536_000,
        description="When Jobs and their pods are removed after the last stage, never artifacts or a serving model.",
    )
    start_timeout_seconds: int = Field(
        default=900,
        ge=30,
        le=86_400,
        description="How long pods may hold GPUs while another pod of their attempt cannot start; then all are let go.",
    )
    max_retries: int = Field(default=2, ge=0, le=100, description="Failures allowed a stage; preemptions do not count.")
    queue_name: str = Field(
        default="",
        max_length=253,
        description="Kueue LocalQueue that admits every Job and every server; empty: Kueue is not used.",
    )
    priority_class_name: str = Field(
        default="",
        max_length=253,
        description="PriorityClass of every pod; with queueName the WorkloadPriorityClass of every Job instead.",
    )
    storage: Storage = Field(description="Where artifacts are kept.")
    mirror: Mirror | None = Field(
        default=None,
        description="Where everything at hf:// is read instead of the hub; unset: the administrator's, or the hub.",
    )
    budget: Budget = Field(default_factory=Budget, description="What GPU time costs, and the most that it may cost.")
    preflight: Literal["Enforce", "Warn"] = Field(
        default="Enforce",
        description="Whether a plan that cannot work (memory, disk) is refused before it costs money, or only marked.",
    )
    seed: int = Field(default=42, ge=0, le=2**31 - 1, description="Seed of everything that is drawn at random.")
    models: list[Model] = Field(
        default_factory=list,
        max_length=16,
        description="Models that are asked something.",
        json_schema_extra=MAP_BY_NAME,
    )
    teacher: Name | None = Field(
        default=None, description="Name of the model whose traces are distilled; unset: with curate.dataset."
    )
    student: Student = Field(description="Who learns.")
    curate: Curate = Field(description="How the dataset is made.")
    train: Train = Field(default_factory=Train, description="How the student is trained.")
    evaluate: Evaluate | None = Field(default=None, description="What is measured; unset: nothing.")
    sandbox: Sandbox = Field(
        default_factory=Sandbox, description="Where code that models wrote is judged, if any is (docs/security.md)."
    )
    gates: list[Gate] = Field(
        default_factory=list,
        max_length=32,
        description="Bars to clear before serving.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["benchmark", "metric"]},
    )
    serve: Serve | None = Field(default=None, description="How the student is served; unset: it is not.")

    @model_validator(mode="after")
    def _teacher_is_one_of_the_models(self) -> Spec:
        """As the schema's rule: a run may have been stored under a definition without it."""
        if (self.teacher is None) != (self.curate.dataset is not None):
            raise ValueError("spec.teacher belongs to curate.sources: set it with them, remove it with curate.dataset")
        if self.teacher is not None and sum(model.name == self.teacher for model in self.models) != 1:
            raise ValueError(f'spec.teacher "{self.teacher}" names no item of spec.models, or two: correct the name')
        unknown = sorted(set(self.curate.asked) - {model.name for model in self.models})
        if unknown:
            raise ValueError(f'curate asks model "{unknown[0]}", which is no item of spec.models: correct the name')
        return self

    @property
    def decontaminated_against(self) -> list[Benchmark | Against]:
        """The data whose questions curation leaves out: the run's benchmarks, then further datasets."""
        settings = self.curate.decontaminate
        benchmarks = self.evaluate.benchmarks if self.evaluate and settings.benchmarks else []
        return [*benchmarks, *settings.against]

    @property
    def asked_models(self) -> list[Model]:
        """The models that curation asks: the teacher, and those that its steps name."""
        names = {self.teacher, *self.curate.asked}
        return [model for model in self.models if model.name in names]

    @property
    def asking_prices(self) -> dict[str, Price]:
        """What the tokens of each model that curation asks cost, by its name; without those of which it is not said,
        and those that the run serves itself."""
        found = {m.name: m.endpoint.price_per_million_tokens for m in self.asked_models if m.endpoint is not None}
        return {name: price for name, price in found.items() if price is not None}

    @property
    def teacher_model(self) -> Model | None:
        """The item of `models` that `teacher` names, None without a teacher; the schema's rules see to it that there is
        one."""
        return next((model for model in self.models if model.name == self.teacher), None)


def _frozen(stage_names: list[str], field: str, what: str) -> tuple[str, str]:
    """A transition rule: `field` may not change once one of the stages was computed from it."""
    names = ", ".join(f"'{name}'" for name in stage_names)
    begun = f"oldSelf.status.stages.exists(s, s.name in [{names}] && s.state in ['Running', 'Succeeded', 'Reused'])"
    same = (
        f"(has(self.spec.{field}) == has(oldSelf.spec.{field})"
        f" && (!has(self.spec.{field}) || self.spec.{field} == oldSelf.spec.{field}))"
    )
    return (
        f"!has(oldSelf.status) || !has(oldSelf.status.stages) || !{begun} || {same}",
        f"spec.{field} cannot change any more: {what} has begun with it; create another DistillRun"
        " (finished stages are taken over when nothing that they depend on differs)",
    )


def _data(who: str) -> str:
    """Where the benchmarks' questions are, as a list."""
    each = "[b.uri, b.split, has(b.revision) ? b.revision : '']"
    return f"(has({who}.spec.evaluate) ? {who}.spec.evaluate.benchmarks.map(b, {each}) : [])"


class DistillRun(ApiModel):
    """A distillation run: curate a teacher's traces, train a student, evaluate it, serve it."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            ("self.metadata.name.size() <= 63", "a DistillRun's name has at most 63 characters: choose a shorter one"),
            *(
                _frozen(["curate", "train", "evaluate"], field, "a stage")
                for field in ("models", "teacher", "student", "storage", "seed")
            ),
            (
                "has(oldSelf.spec.suspend) && oldSelf.spec.suspend || has(self.spec.suspend) && self.spec.suspend"
                " || (has(self.spec.queueName) ? self.spec.queueName : '')"
                " == (has(oldSelf.spec.queueName) ? oldSelf.spec.queueName : '')",
                "spec.queueName can only change while the run is suspended: set spec.suspend: true with it",
            ),
            _frozen(["curate"], "curate", "curation"),
            (
                "!has(oldSelf.status) || !has(oldSelf.status.stages)"
                " || !oldSelf.status.stages.exists(s, s.name == 'curate' && s.state == 'Running')"
                " || !oldSelf.spec.curate.decontaminate.benchmarks"
                f" || {_data('self')} == {_data('oldSelf')}",
                "spec.evaluate.benchmarks' data cannot change while curation leaves out what they ask: wait until it is"
                " done, or suspend the run",
            ),
            _frozen(["train"], "train", "training"),
            _frozen(["evaluate"], "evaluate", "evaluation"),
        )
    }

    spec: Spec = Field(description="What the user wants.")
    status: Status = Field(
        default_factory=Status,
        description="What the operator has seen and done.",
        json_schema_extra={"default": {"observedGeneration": -1}},
    )
