"""The blocks of stage.yaml as pydantic models: what each stage is told about its own work."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from distillstages.common.traceformat import TraceFormat

Uri = Annotated[str, Field(pattern=r"^(file:///|s3://|hf://).+", max_length=2048)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$")]
PositiveInt = Annotated[int, Field(ge=1)]
Revision = Annotated[str, Field(min_length=1, max_length=256)] | None


class Model(BaseModel):
    """camelCase in the file, snake_case in the code, nothing unknown, immutable once read."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, allow_inf_nan=False
    )


class ApiKey(Model):
    """Where a key comes from: the environment variable `env` holds it, `secret` and `key` name it in messages."""

    secret: str
    key: str
    env: str = "DISTILLRUN_TEACHER_API_KEY"


class Teacher(Model):
    """An OpenAI-compatible endpoint. `url` ends before /chat/completions. null: no such limit. `loads` identifies what
    a server of the run's own loads, since its URL is another one in each run."""

    name: str
    url: Annotated[str, Field(pattern=r"^https?://.+")]
    model: Annotated[str, Field(min_length=1)]
    max_concurrency: PositiveInt = 64
    requests_per_minute: PositiveInt | None = None
    requests_per_day: PositiveInt | None = None
    tokens_per_minute: PositiveInt | None = None
    request_timeout_seconds: Annotated[float, Field(gt=0)] = 600.0
    max_attempts_per_request: PositiveInt = 8
    terms_reference: str | None = None
    api_key: ApiKey | None = None
    loads: str | None = None


class Fields(Model):
    """How rows are laid out, and the names of their columns; null: the layout's own (layouts.py). `choices`: one column
    that holds all of them, or one for each. `id` null: rows are named by a hash of source and question. `answered`
    false: only the question counts, and rows need no answer."""

    layout: Literal["Columns", "ShareGPT", "Messages", "Alpaca", "MultipleChoice", "CodeTests", "HumanEval"] = "Columns"
    question: str | None = None
    answer: str | None = None
    input: str | None = None
    choices: tuple[str, ...] | None = None
    answer_is: Literal["Auto", "Letter", "Index", "IndexFromOne", "Text"] = "Auto"
    tests: str | None = None
    starter_code: str | None = None
    entry_point: str | None = None
    id: str | None = None
    answered: bool = True


class RowFilter(Model):
    """Keeps the rows whose `column` is `one_of` some texts, `contains` all of them, or `lacks` them all (rowfilter.py);
    exactly one is given."""

    column: Annotated[str, Field(min_length=1)]
    one_of: list[str] | None = None
    contains: list[str] | None = None
    lacks: list[str] | None = None

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        if [self.one_of, self.contains, self.lacks].count(None) != 2:
            raise ValueError(f"filter of column {self.column!r}: set exactly one of oneOf, contains and lacks")
        return self


class Source(Model):
    """Rows of questions: one file, a directory or a glob of .jsonl, .parquet or .csv; hf:// takes the split.

    `revision`: a hub's commit, branch or tag, or the content identity of files (see identity.py): exactly that is read,
    or nothing. `pick`: which rows `take` means. `share`: of the mixture, relative to the other sources' shares.
    `filters`: what rows must pass, before `take` counts them. `unchecked`: nobody has chosen `revision`, which the card
    then says."""

    name: Name
    uri: Uri
    revision: Revision = None
    split: str = "train"
    take: PositiveInt | None = None
    pick: Literal["First", "Random"] = "First"
    share: Annotated[float, Field(gt=0)] | None = None
    domain: str = ""
    unchecked: bool = False
    fields: Fields = Fields()
    filters: list[RowFilter] = []


class TraceFields(Model):
    """How the rows of a published dataset are laid out, and the names of their columns; null: the layout's own
    (tracerows.py). `answer` null: the rows have no reference answer; `id` null: a hash of the question."""

    layout: Literal["Columns", "ShareGPT", "Messages"] = "Columns"
    question: str | None = None
    thinking: str | None = None
    response: str | None = None
    answer: str | None = None
    id: str | None = None


class Dataset(Model):
    """Questions with traces that somebody has published. `revision` and `unchecked` as a source's."""

    name: Name = "dataset"
    uri: Uri
    revision: Revision = None
    split: str = "train"
    take: PositiveInt | None = None
    unchecked: bool = False
    fields: TraceFields = TraceFields()


class Student(Model):
    """The model to train: a directory (file://, s3://) or a hub id (hf://owner/name)."""

    uri: Uri
    revision: Revision = None


class InputToResolve(Source):
    """A source, a benchmark, or what questions are compared with. `pinned`: the revision that an earlier resolve of
    this run froze; it is kept."""

    pinned: Revision = None


class DatasetToResolve(Dataset):
    """The published dataset. `pinned` as in InputToResolve."""

    pinned: Revision = None


class StudentToResolve(Student):
    """The student. `pinned` as in InputToResolve."""

    pinned: Revision = None


class Resolve(Model):
    """The block of the resolve stage: every input of the run."""

    student: StudentToResolve
    trace_format: TraceFormat = "Think"
    system_prompt: str | None = None
    sources: list[InputToResolve] = []
    dataset: DatasetToResolve | None = None
    benchmarks: list[InputToResolve] = []
    against: list[InputToResolve] = []

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        unique([s.name for s in self.sources], "source")
        unique([b.name for b in self.benchmarks], "benchmark")
        unique([a.name for a in self.against], "dataset to decontaminate against")
        return self


class ReasoningDelimiters(Model):
    """The texts between which a teacher's reasoning stands in its answer."""

    open: Annotated[str, Field(min_length=1)]
    close: Annotated[str, Field(min_length=1)]


class Generate(Model):
    """How the teacher is asked. `samples` answers a question; `reasoning_delimiters` null: those of trace formats."""

    samples: Annotated[int, Field(ge=1, le=64)] = 1
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: PositiveInt = 16384
    system_prompt: str | None = None
    reasoning_delimiters: ReasoningDelimiters | None = None


class Verify(Model):
    """Limits of the answer check, CPU seconds an answer; of code, a test."""

    timeout_seconds: Annotated[float, Field(gt=0)] = 5.0
    wrong: Literal["Reject", "Keep"] = "Reject"


class Decontaminate(Model):
    """Questions that share a run of `words` words with a question of `against` are left out."""

    words: Annotated[int, Field(ge=1, le=64)] = 8
    against: list[Source] = []


class Deduplicate(Model):
    """Questions that repeat an earlier one are left out: `exact`ly, or by a Jaccard index of `near` or more."""

    exact: bool = True
    near: Annotated[float, Field(gt=0, le=1)] | None = None


class Preselect(Model):
    """Right traces of a source, of at least so many tokens."""

    source: Name
    min_tokens: Annotated[int, Field(ge=0)] = 0


class Select(Model):
    """Which accepted traces become the dataset (select.py)."""

    strategy: Literal["All", "Random", "Longest", "S1"] = "All"
    size: PositiveInt | None = None
    variant: Literal["Paper", "Notebook"] = "Paper"
    preselect: list[Preselect] = []


class Sandbox(Model):
    """The service that judges code (sandbox/service.py); `url` ends before /judge. It counts as away once nobody was
    answered for `patience_seconds`."""

    url: Annotated[str, Field(pattern=r"^https?://.+")]
    patience_seconds: Annotated[float, Field(gt=0)] = 600.0


class ScoreWindow(Model):
    """Questions of a source that are rated from `min` to `max` stay."""

    source: Name
    min: Annotated[float, Field(ge=1, le=10)] = 1.0
    max: Annotated[float, Field(ge=1, le=10)] = 10.0


class Difficulty(Model):
    """Questions that `models` answer first, `samples` times each. `keep` Failed: what none of them gets right;
    PassRate: what they get right in a share of their answers from `min_pass_rate` to `max_pass_rate`; Score: what the
    one model rates within the window of its source, and all questions of sources without one."""

    models: Annotated[list[Name], Field(min_length=1)]
    samples: Annotated[int, Field(ge=1, le=64)] = 1
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    max_tokens: PositiveInt = 32768
    keep: Literal["Failed", "PassRate", "Score"] = "Failed"
    min_pass_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_pass_rate: Annotated[float, Field(ge=0, le=1)] = 1.0
    scores: list[ScoreWindow] = []

    @model_validator(mode="after")
    def _one_scorer(self) -> Self:
        if (self.keep == "Score") != bool(self.scores):
            raise ValueError("difficulty: scores belong to keep Score, which needs them")
        if self.scores and (len(self.models), self.samples) != (1, 1):
            raise ValueError("difficulty: keep Score asks one model once")
        unique([score.source for score in self.scores], "source")
        return self


class Domains(Model):
    """Where a question's domain comes from: a `model` that is asked for one of `labels` (none: the subjects of
    subjects.py), or a `column` of the sources' rows."""

    model: Name | None = None
    labels: list[str] = []
    max_tokens: PositiveInt = 2048
    column: str | None = None

    @model_validator(mode="after")
    def _model_or_column(self) -> Self:
        if (self.model is None) == (self.column is None):
            raise ValueError("domains: set exactly one of model and column")
        unique([" ".join(label.casefold().split()) for label in self.labels], "label")
        return self


class Rewrite(Model):
    """Accepted traces are written anew by `model`, thought and solution apart."""

    model: Name
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    max_tokens: PositiveInt = 16384


class Curate(Model):
    """The block of the curate stage: either `sources` that a `teacher` is asked, or a `dataset` that is converted.
    `models`: the others that are asked, which the steps name. `sandbox` null: no question may be judged by tests."""

    teacher: Teacher | None = None
    models: list[Teacher] = []
    sources: list[Source] = []
    dataset: Dataset | None = None
    generate: Generate = Generate()
    verify: Verify = Verify()
    decontaminate: Decontaminate = Decontaminate()
    deduplicate: Deduplicate = Deduplicate()
    difficulty: Difficulty | None = None
    domains: Domains | None = None
    rewrite: Rewrite | None = None
    select: Select = Select()
    sandbox: Sandbox | None = None

    @property
    def endpoints(self) -> dict[str, Teacher]:
        """All models that are asked, by name; the teacher first."""
        return {model.name: model for model in [*([self.teacher] if self.teacher else []), *self.models]}

    @model_validator(mode="after")
    def _sources_or_dataset(self) -> Self:
        if bool(self.sources) == (self.dataset is not None):
            raise ValueError("set exactly one of sources and dataset")
        if (self.teacher is None) != (self.dataset is not None):
            raise ValueError("sources need a teacher, and a dataset needs none")
        unique([s.name for s in self.sources], "source")
        unique([m.name for m in [*([self.teacher] if self.teacher else []), *self.models]], "model")
        asked = [*(self.difficulty.models if self.difficulty else [])]
        asked += [step.model for step in (self.domains, self.rewrite) if step is not None and step.model]
        unknown = sorted(set(asked) - set(self.endpoints))
        if unknown:
            raise ValueError(f"model {unknown[0]!r} is asked, but is neither the teacher nor one of models")
        if self.rewrite is not None and self.verify.wrong == "Keep":
            raise ValueError(
                "rewrite needs verify.wrong Reject: nothing checks whether a rewriting kept a wrong answer"
            )
        if len({s.share is None for s in self.sources}) == 2:
            raise ValueError("either all sources have a share or none")
        return self


class Distributed(Model):
    """The ranks. The rank of this node is JOB_COMPLETION_INDEX."""

    nodes: PositiveInt = 1
    processes_per_node: PositiveInt = 1
    master_address: str = "127.0.0.1"
    master_port: Annotated[int, Field(ge=1, le=65535)] = 29500

    @property
    def ranks(self) -> int:
        """Processes in all."""
        return self.nodes * self.processes_per_node


class DeepSpeed(Model):
    """`config` is merged over ours; keys that we own are refused by the stage with a message."""

    zero_stage: Annotated[int, Field(ge=0, le=3)] = 3
    offload_optimizer: bool = True
    offload_parameters: bool = True
    config: dict[str, Any] = {}


class Checkpoint(Model):
    """A checkpoint every so many optimizer steps; the newest `keep` stay."""

    every_steps: PositiveInt = 100
    keep: PositiveInt = 2


class Train(Model):
    """The block of the train stage. Exactly one of `epochs` and `max_steps` is set."""

    student: Student
    dataset: Uri
    trace_format: TraceFormat = "Think"
    system_prompt: str | None = None
    distributed: Distributed = Distributed()
    epochs: Annotated[float, Field(gt=0)] | None = None
    max_steps: PositiveInt | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    schedule: Literal["Cosine", "Linear", "Constant"] = "Cosine"
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.05
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    global_batch_size: PositiveInt = 16
    micro_batch_size: PositiveInt = 1
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    max_sequence_length: PositiveInt = 32768
    on_overlong: Literal["Fail", "Drop", "Truncate"] = "Fail"
    loss_on: Literal["Completion", "All"] = "Completion"
    loss_normalization: Literal["Token", "Sequence"] = "Token"
    precision: Literal["BF16", "FP32"] = "BF16"
    gradient_checkpointing: bool = True
    deepspeed: DeepSpeed = DeepSpeed()
    checkpoint: Checkpoint = Checkpoint()
    trainer_args: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError(f"set exactly one of epochs ({self.epochs}) and maxSteps ({self.max_steps})")
        return self


class EvaluatedModel(Model):
    """A model to score, by the name it has in the report."""

    name: Name
    uri: Uri
    revision: Revision = None


class Benchmark(Model):
    """A set of questions with answers, how they are asked, and whether the answers are mathematics, letters or code."""

    name: Name
    uri: Uri
    revision: Revision = None
    split: str = "test"
    take: PositiveInt | None = None
    fields: Fields = Fields()
    samples: Annotated[int, Field(ge=1, le=64)] = 1
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: PositiveInt = 32768
    grader: Literal["Math", "MultipleChoice", "Code"] = "Math"

    @model_validator(mode="after")
    def _code_has_tests(self) -> Self:
        if (self.grader == "Code") != (self.fields.layout in ("CodeTests", "HumanEval")):
            raise ValueError(
                f"benchmark {self.name!r} has grader {self.grader} and layout {self.fields.layout}, but grader Code "
                "goes with the layouts CodeTests and HumanEval, and they with it"
            )
        return self


class Engine(Model):
    """vLLM's settings while evaluating. `max_model_length` null: the model's own."""

    tensor_parallel: PositiveInt = 1
    max_model_length: PositiveInt | None = None
    max_concurrency: PositiveInt = 64
    vllm_args: list[str] = []


class ServeEngine(Model):
    """vLLM's settings while serving."""

    tensor_parallel: PositiveInt = 1
    max_model_length: PositiveInt | None = None
    vllm_args: list[str] = []


class Evaluate(Model):
    """The block of the evaluate stage. `sandbox` null: no benchmark may have grader Code."""

    models: Annotated[list[EvaluatedModel], Field(min_length=1)]
    benchmarks: Annotated[list[Benchmark], Field(min_length=1)]
    engine: Engine = Engine()
    sandbox: Sandbox | None = None
    trace_format: TraceFormat = "Think"
    system_prompt: str | None = None

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        unique([m.name for m in self.models], "model")
        unique([b.name for b in self.benchmarks], "benchmark")
        if self.sandbox is None and (code := [b.name for b in self.benchmarks if b.grader == "Code"]):
            raise ValueError(f"benchmark {code[0]!r} has grader Code, which needs sandbox.url: no sandbox is given")
        return self


class Serve(Model):
    """The block of the serve stage."""

    model: Uri
    revision: Revision = None
    served_model_name: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    engine: ServeEngine = ServeEngine()


def unique(names: list[str], what: str) -> None:
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"{what} name {twice[0]!r} is given twice, every {what} needs a name of its own")
