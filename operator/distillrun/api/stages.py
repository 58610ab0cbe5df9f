"""The four stages of a run as the user writes them: curate, train, evaluate, serve."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from distillrun.api.asked import Difficulty, Domains, Rewrite
from distillrun.api.base import (
    ANY_OBJECT,
    ATOMIC,
    MAP_BY_NAME,
    ApiModel,
    ArtifactUri,
    Column,
    Decimal,
    Name,
    ObjectName,
    ServiceName,
    rules,
)
from distillrun.api.funnel import Decontaminate, Deduplicate, Select
from distillrun.api.pod import PodSettings
from distillrun.api.rowfilter import RowFilter


def _between(field: str, low: str, high: str, above: bool = False, below: bool = False) -> tuple[str, str]:
    """A rule that bounds a decimal field; `above` and `below` leave out the bound itself."""
    rule = (
        f"double(self.{field}) {'>' if above else '>='} {low} && double(self.{field}) {'<' if below else '<='} {high}"
    )
    bounds = f"{'above' if above else 'from'} {low} {'to below' if below else 'to'} {high}"
    return rule, f"{field} must be {bounds}: correct it"


_SAMPLING = (_between("temperature", "0.0", "2.0"), _between("topP", "0.0", "1.0", above=True))


class Fields(ApiModel):
    """How rows are laid out, and which column holds what (docs/data.md)."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            ("!has(self.input) || self.layout == 'Alpaca'", "fields.input belongs to layout: Alpaca: remove it"),
            (
                "self.layout == 'MultipleChoice' || !has(self.choices) && self.answerIs == 'Auto'",
                "fields.choices and fields.answerIs belong to layout: MultipleChoice: set it or remove them",
            ),
            (
                "self.layout in ['CodeTests', 'HumanEval'] ? !has(self.answer) : !has(self.tests)",
                "layouts CodeTests and HumanEval have fields.tests, and the others fields.answer: remove the one that"
                " does not belong to the layout",
            ),
            (
                "(!has(self.starterCode) || self.layout == 'CodeTests')"
                " && (!has(self.entryPoint) || self.layout == 'HumanEval')",
                "fields.starterCode belongs to layout: CodeTests, fields.entryPoint to HumanEval: remove it",
            ),
        )
    }

    layout: Literal["Columns", "ShareGPT", "Messages", "Alpaca", "MultipleChoice", "CodeTests", "HumanEval"] = Field(
        default="Columns",
        description="Columns of question and answer; conversations of {from, value} or of {role, content};"
        " instruction, input and output; a question with choices; or a task with unit tests, as APPS and TACO or as"
        " HumanEval have them.",
    )
    question: Column | None = Field(
        default=None,
        description="Column of the question, or of the conversation; unset: question, and by layout conversations,"
        " messages, instruction or prompt.",
    )
    answer: Column | None = Field(
        default=None,
        description="Column of the reference answer; what follows its last '####', or its last box, when it has one."
        " Unset: answer, Alpaca: output, ShareGPT and Messages: the reply to the first question.",
    )
    input: Column | None = Field(
        default=None, description="Alpaca: column of what is put below the instruction; unset: input, if it is there."
    )
    choices: list[Column] | None = Field(
        default=None,
        min_length=1,
        max_length=10,
        description="MultipleChoice: the column that holds all choices, or one column for each; unset: choices.",
        json_schema_extra=ATOMIC,
    )
    answer_is: Literal["Auto", "Letter", "Index", "IndexFromOne", "Text"] = Field(
        default="Auto",
        description="MultipleChoice: how the answer names a choice (Index counts from 0); Auto: as each row allows, and"
        " a row that may mean two choices is refused.",
    )
    tests: Column | None = Field(
        default=None,
        description="CodeTests, HumanEval: column of the unit tests; unset: input_output, or test.",
    )
    starter_code: Column | None = Field(
        default=None, description="CodeTests: column of code to begin with; unset: starter_code, if it is there."
    )
    entry_point: Column | None = Field(
        default=None, description="HumanEval: column of the function's name; unset: entry_point."
    )
    id: str = Field(default="", max_length=128, description="Column of an identifier; empty: a hash of the question.")


class Source(ApiModel):
    """Questions to ask the teacher."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            ("self.pick == 'First' || has(self.take)", "pick: Random needs take: say how many rows are drawn"),
            ("!has(self.share) || double(self.share) > 0.0", "share must be above 0: correct it or remove the source"),
        )
    }

    name: Name = Field(description="Name of the source, unique in the run.")
    uri: ArtifactUri = Field(
        description="JSONL, Parquet or CSV file, a folder or a glob of them, or hf://datasets/owner/name."
    )
    revision: str | None = Field(
        default=None, max_length=128, description="Revision of a hub dataset: a commit is best; unset: the newest."
    )
    split: str = Field(default="train", max_length=64, description="Split of a hub dataset.")
    take: int | None = Field(default=None, ge=1, le=100_000_000, description="Only so many rows.")
    pick: Literal["First", "Random"] = Field(
        default="First", description="Which rows take means: the first, or some drawn at random with the run's seed."
    )
    share: Decimal | None = Field(
        default=None,
        description="Share of the mixture, relative to the other sources' shares; as many questions are drawn at random"
        " with the run's seed as keep all shares. Unset: all questions.",
    )
    domain: str = Field(
        default="", max_length=63, description="Domain of its questions, for select: math, code, science, puzzle, …"
    )
    fields: Fields = Field(default_factory=Fields, description="Which column holds what.")
    filters: list[RowFilter] = Field(
        default_factory=list,
        max_length=3,
        description="Rows to keep, by the text of a column; a row must pass each. take counts those that did.",
        json_schema_extra=ATOMIC,
    )
    secret_name: str = Field(
        default="",
        max_length=253,
        description="Secret whose keys become environment variables for reading it (AWS_ACCESS_KEY_ID, HF_TOKEN, …).",
    )


class TraceFields(ApiModel):
    """How the rows of a published dataset are laid out, and which column holds what (docs/data.md)."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "self.layout == 'Columns' || !has(self.thinking) && !has(self.response)",
                "dataset.fields: thinking and response belong to layout: Columns, a conversation holds both:"
                " remove them",
            ),
        )
    }

    layout: Literal["Columns", "ShareGPT", "Messages"] = Field(
        default="Columns",
        description="Columns of question, thinking and response, or conversations of {from, value} or of"
        " {role, content} whose reply holds both.",
    )
    question: Column | None = Field(
        default=None,
        description="Column of the question, or of the conversation; unset: question, and by layout conversations or"
        " messages.",
    )
    thinking: Column | None = Field(default=None, description="Column of the thinking; unset: thinking.")
    response: Column | None = Field(default=None, description="Column of the response; unset: response.")
    answer: Column | None = Field(default=None, description="Column of a reference answer, to be kept; unset: none.")
    id: str = Field(default="", max_length=128, description="Column of an identifier; empty: a hash of the question.")


class Dataset(ApiModel):
    """A published dataset of traces, which is trained on as it is once it was validated."""

    uri: ArtifactUri = Field(description="Its rows: as a source's uri.")
    revision: str | None = Field(
        default=None, max_length=128, description="Revision of a hub dataset: a commit is best; unset: the newest."
    )
    split: str = Field(default="train", max_length=64, description="Split of a hub dataset.")
    take: int | None = Field(default=None, ge=1, le=100_000_000, description="Only the first rows, this many.")
    fields: TraceFields = Field(default_factory=TraceFields, description="Which column holds what.")
    secret_name: str = Field(
        default="", max_length=253, description="Secret whose keys become environment variables for reading it."
    )

    @property
    def name(self) -> str:
        """Its name among the inputs that are resolved."""
        return "dataset"


Delimiter = Annotated[str, Field(min_length=1, max_length=64)]


class ReasoningDelimiters(ApiModel):
    """The texts between which a teacher's reasoning stands in its answer."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            ("self.open != self.close", "reasoningDelimiters: open and close must differ: correct them"),
        )
    }

    open: Delimiter = Field(description='Text before the reasoning, e.g. "[THINK]"; an answer may lack it.')
    close: Delimiter = Field(description='Text after it, e.g. "[/THINK]".')


class Generate(ApiModel):
    """How the teacher is asked."""

    model_config = ApiModel.model_config | {"json_schema_extra": rules(*_SAMPLING)}

    samples: int = Field(default=1, ge=1, le=64, description="Answers asked for each question.")
    temperature: Decimal = Field(default="0.7", description="Sampling temperature.")
    top_p: Decimal = Field(default="1", description="Nucleus sampling.")
    max_tokens: int = Field(default=16384, ge=1, le=1_000_000, description="Longest answer, in the teacher's tokens.")
    system_prompt: str = Field(default="", max_length=8192, description="System prompt for the teacher; empty: none.")
    reasoning_delimiters: ReasoningDelimiters | None = Field(
        default=None,
        description="Delimiters of reasoning inside the answer, where the API gives it no field of its own; unset:"
        " <think> and </think>, Sky-T1's and s1's.",
    )


class Verify(ApiModel):
    """How a trace's answer is checked against the reference, or by unit tests."""

    timeout_seconds: int = Field(
        default=5,
        ge=1,
        le=600,
        description="CPU seconds that one check may take. Code: that one test may take, 60 at most; all tests 60 times"
        " as much, 600 at most.",
    )
    wrong: Literal["Reject", "Keep"] = Field(
        default="Reject",
        description="What becomes of whole traces whose answer is wrong or cannot be checked; s1 kept them on purpose.",
    )


class Curate(ApiModel):
    """Make the dataset: ask the teacher, check its answers, keep the right ones."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "!has(self.sources) || self.sources.all(s, has(s.share)) || !self.sources.exists(s, has(s.share))",
                "curate.sources: either all of them have a share or none: give the others one, or use take",
            ),
            (
                "has(self.dataset) != (has(self.sources) && self.sources.size() > 0)",
                "curate needs exactly one of sources and dataset: set one and remove the other",
            ),
            (
                "!has(self.select.preselect)"
                " || self.select.preselect.all(p, self.sources.exists(s, s.name == p.source))",
                "each select.preselect[].source must be the name of one of curate.sources: correct the name",
            ),
            (
                "!has(self.dataset) || self.select.strategy == 'All' && !has(self.deduplicate.near)",
                "curate.dataset is trained on as it is: remove select and deduplicate.near, or choose rows with take",
            ),
            (
                "!has(self.dataset) || !has(self.difficulty) && !has(self.domains) && !has(self.rewrite)",
                "curate.dataset asks nobody: remove difficulty, domains and rewrite",
            ),
            (
                "!has(self.difficulty) || !has(self.difficulty.scores)"
                " || self.difficulty.scores.all(w, has(self.sources) && self.sources.exists(s, s.name == w.source))",
                "each difficulty.scores[].source must be the name of one of curate.sources: correct the name",
            ),
            (
                "!has(self.rewrite) || self.verify.wrong == 'Reject'",
                "curate.rewrite checks that the answer stays right, so it needs verify.wrong: Reject: change one of"
                " them",
            ),
        )
    }

    sources: list[Source] = Field(
        default_factory=list,
        max_length=32,
        description="Where questions for the teacher come from.",
        json_schema_extra=MAP_BY_NAME,
    )
    dataset: Dataset | None = Field(
        default=None, description="A published dataset of traces instead: nobody is asked, and no answer is checked."
    )
    generate: Generate = Field(default_factory=Generate, description="How the teacher is asked.")
    verify: Verify = Field(default_factory=Verify, description="How answers are checked.")
    decontaminate: Decontaminate = Field(
        default_factory=Decontaminate, description="Leave out what the benchmarks ask, too."
    )
    deduplicate: Deduplicate = Field(default_factory=Deduplicate, description="Leave out what is asked twice.")
    difficulty: Difficulty | None = Field(
        default=None, description="Leave out what is too easy or too hard for weaker models; unset: nothing."
    )
    domains: Domains | None = Field(default=None, description="Domains of questions; unset: their sources'.")
    rewrite: Rewrite | None = Field(default=None, description="Write accepted traces anew; unset: not.")
    select: Select = Field(default_factory=Select, description="Which of the accepted traces become the dataset.")
    trace_format: Literal["Think", "SkyT1", "S1"] = Field(
        default="Think",
        description="Text form in which the student learns traces: <think> tags, Sky-T1's or s1's delimiters.",
    )
    system_prompt: str | None = Field(
        default=None,
        max_length=8192,
        description="System prompt that the student is trained, evaluated and served with; unset: the format's own.",
    )
    pod: PodSettings = Field(default_factory=PodSettings, description="Settings of its pods.")

    @property
    def asked(self) -> list[str]:
        """Names of the models besides the teacher that it asks, each once."""
        found = [*self.difficulty.models] if self.difficulty else []
        found += [step.model for step in (self.domains, self.rewrite) if step is not None and step.model]
        return list(dict.fromkeys(found))

    @property
    def inputs(self) -> list[Source | Dataset]:
        """What it reads: sources or a dataset."""
        return [*self.sources, *([self.dataset] if self.dataset else [])]

    @model_validator(mode="after")
    def _sources_or_dataset(self) -> Self:
        """As the schema's rule: a run may have been stored under a definition without it."""
        if bool(self.sources) == (self.dataset is not None):
            raise ValueError("curate needs exactly one of sources and dataset: set one and remove the other")
        return self


class DeepSpeed(ApiModel):
    """ZeRO settings (Rajbhandari et al., arXiv 1910.02054)."""

    zero_stage: Literal[0, 1, 2, 3] = Field(default=3, description="What is partitioned over the GPUs; 3: everything.")
    offload_optimizer: bool = Field(default=True, description="Keep optimizer states in host memory.")
    offload_parameters: bool = Field(default=True, description="Keep parameters in host memory; needs stage 3.")
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="More of DeepSpeed's own configuration. What other fields set is refused here.",
        json_schema_extra=ANY_OBJECT,
    )


class Checkpoint(ApiModel):
    """When a run saves what it needs to continue."""

    every_steps: int = Field(default=100, ge=1, le=1_000_000, description="Optimizer steps between checkpoints.")
    keep: int = Field(default=2, ge=1, le=100, description="Checkpoints kept; older ones are deleted.")


class Train(ApiModel):
    """Full fine-tuning of the student on the dataset: TRL's SFTTrainer over DeepSpeed."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "!(has(self.epochs) && has(self.maxSteps))",
                "train.epochs and train.maxSteps are both set: keep one of them",
            ),
            (
                "self.globalBatchSize % (self.microBatchSize * self.nodes * self.gpusPerNode) == 0",
                "train.globalBatchSize must be a multiple of microBatchSize × nodes × gpusPerNode: change one of them",
            ),
            _between("learningRate", "0.0", "1.0", above=True),
            _between("warmupRatio", "0.0", "1.0", below=True),
            ("self.betas.all(b, double(b) < 1.0)", "train.betas must be below 1: correct them"),
            (
                "!has(self.epochs) || double(self.epochs) > 0.0",
                "train.epochs must be above 0: correct it or set maxSteps",
            ),
            (
                "double(self.maxGradNorm) > 0.0",
                "train.maxGradNorm must be above 0: 1 is common, a large number turns clipping off",
            ),
            (
                "!self.deepspeed.offloadParameters || self.deepspeed.zeroStage == 3",
                "train.deepspeed.offloadParameters needs zeroStage 3: set zeroStage: 3 or offloadParameters: false",
            ),
            (
                "!self.deepspeed.offloadOptimizer || self.deepspeed.zeroStage >= 1",
                "train.deepspeed.offloadOptimizer needs zeroStage 1 or more: raise it or set offloadOptimizer: false",
            ),
        )
    }

    nodes: int = Field(default=1, ge=1, le=512, description="Pods that train together.")
    gpus_per_node: int = Field(default=8, ge=1, le=64, description="GPUs of each pod; one process each.")
    gpu_product: str = Field(
        default="",
        max_length=63,
        pattern=r"^([A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?)?$",
        description="GPU product that the pods need, by the node label nvidia.com/gpu.product:"
        " NVIDIA-H100-80GB-HBM3; empty: any. Preflight, estimate and price book go by it.",
    )
    epochs: Decimal | None = Field(
        default=None, description="Passes over the dataset; 3 when neither this nor maxSteps is set."
    )
    max_steps: int | None = Field(default=None, ge=1, le=10_000_000, description="Optimizer steps, instead of epochs.")
    learning_rate: Decimal = Field(default="1e-5", description="Peak learning rate.")
    schedule: Literal["Cosine", "Linear", "Constant"] = Field(
        default="Cosine", description="How the learning rate falls to zero after warm-up (Constant: it does not)."
    )
    warmup_ratio: Decimal = Field(default="0.05", description="Share of the steps that warm up.")
    weight_decay: Decimal = Field(default="0", description="AdamW's weight decay.")
    betas: list[Decimal] = Field(
        default=["0.9", "0.999"], min_length=2, max_length=2, description="AdamW's betas.", json_schema_extra=ATOMIC
    )
    global_batch_size: int = Field(default=16, ge=1, le=65536, description="Examples an optimizer step.")
    micro_batch_size: int = Field(default=1, ge=1, le=1024, description="Examples a GPU computes at once.")
    max_grad_norm: Decimal = Field(default="1", description="Gradients are clipped to this norm.")
    max_sequence_length: int = Field(
        default=32768, ge=16, le=10_000_000, description="Longest example in tokens, prompt included."
    )
    on_overlong: Literal["Fail", "Drop", "Truncate"] = Field(
        default="Fail", description="What happens to a longer example; Drop and Truncate are counted in the results."
    )
    loss_on: Literal["Completion", "All"] = Field(
        default="Completion", description="Which tokens are learned: the trace and answer, or the prompt too."
    )
    loss_normalization: Literal["Token", "Sequence"] = Field(
        default="Token", description="Mean over a step's tokens, or over its sequences' means (as s1 did)."
    )
    precision: Literal["BF16", "FP32"] = Field(default="BF16", description="Number format of compute.")
    gradient_checkpointing: bool = Field(default=True, description="Recompute activations to save memory.")
    deepspeed: DeepSpeed = Field(default_factory=DeepSpeed, description="ZeRO settings.")
    checkpoint: Checkpoint = Field(default_factory=Checkpoint, description="When to save.")
    stall_timeout_seconds: int = Field(
        default=1800,
        ge=60,
        le=86_400,
        description="Without a step for this long all ranks are restarted from the checkpoint, their stacks kept.",
    )
    trainer_args: dict[str, Any] = Field(
        default_factory=dict,
        description="More arguments of TRL's SFTConfig. What other fields set is refused here.",
        json_schema_extra=ANY_OBJECT,
    )
    pod: PodSettings = Field(default_factory=PodSettings, description="Settings of its pods.")


VllmArg = Annotated[str, Field(max_length=512, pattern=r"^\S.*$")]


class Engine(ApiModel):
    """How vLLM serves a model."""

    tensor_parallel: int = Field(default=1, ge=1, le=64, description="GPUs that share one copy of the model.")
    max_model_length: int | None = Field(
        default=None, ge=16, le=10_000_000, description="Longest prompt and answer in tokens; unset: the model's own."
    )
    vllm_args: list[VllmArg] = Field(
        default_factory=list,
        max_length=64,
        description="More arguments of `vllm serve`. Host, port, model and keys are the operator's.",
        json_schema_extra=ATOMIC,
    )


class EvaluationEngine(Engine):
    """How vLLM serves the models that are evaluated."""

    max_concurrency: int = Field(default=64, ge=1, le=4096, description="Questions in flight.")


class Benchmark(ApiModel):
    """Questions with known answers, or with tests, that the student has not seen."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            *_SAMPLING,
            (
                "(self.grader == 'Code') == (self.fields.layout in ['CodeTests', 'HumanEval'])",
                "grader: Code goes with the layouts CodeTests and HumanEval, and they with it: correct one of them",
            ),
        )
    }

    name: Name = Field(description="Name of the benchmark, unique in the run.")
    uri: ArtifactUri = Field(description="Its questions: as a source's uri.")
    revision: str | None = Field(
        default=None, max_length=128, description="Revision of a hub dataset: a commit is best; unset: the newest."
    )
    split: str = Field(default="test", max_length=64, description="Split of a hub dataset.")
    take: int | None = Field(default=None, ge=1, le=10_000_000, description="Only the first rows, this many.")
    fields: Fields = Field(default_factory=Fields, description="Which column holds what.")
    grader: Literal["Math", "MultipleChoice", "Code"] = Field(
        default="Math",
        description="How answers are judged: as mathematics, by the one letter they give as their answer (the reference"
        " is a letter; the question lists the choices), or by running their code on the row's tests in the sandbox.",
    )
    samples: int = Field(default=1, ge=1, le=256, description="Answers a question; accuracy is their mean (pass@1).")
    temperature: Decimal = Field(default="0", description="Sampling temperature; 0: greedy.")
    top_p: Decimal = Field(default="1", description="Nucleus sampling.")
    max_tokens: int = Field(default=32768, ge=1, le=10_000_000, description="Longest answer in tokens.")
    secret_name: str = Field(
        default="", max_length=253, description="Secret whose keys become environment variables for reading it."
    )


class Evaluate(ApiModel):
    """Measure the student, and the model it was made from, on benchmarks."""

    benchmarks: list[Benchmark] = Field(
        min_length=1, max_length=32, description="What is measured.", json_schema_extra=MAP_BY_NAME
    )
    engine: EvaluationEngine = Field(default_factory=EvaluationEngine, description="How vLLM serves the models.")
    also_base_model: bool = Field(default=True, description="Measure the model that the student was made from, too.")
    pod: PodSettings = Field(default_factory=PodSettings, description="Settings of its pods.")


class Gate(ApiModel):
    """A bar that the student must clear before it is served."""

    benchmark: Name = Field(description="Name of a benchmark of evaluate.")
    metric: Literal["Accuracy", "AccuracyLowerBound"] = Field(
        default="Accuracy", description="The student's accuracy, or the lower end of its 95 % Wilson interval."
    )
    at_least: Decimal = Field(description='The bar, from "0" to "1".')


class Serve(ApiModel):
    """Serve the student with vLLM behind a Service."""

    endpoint_name: ServiceName | None = Field(
        default=None,
        description="A Service that outlives the run: the next run that names it takes it over once its gates are"
        " passed and its model has answered. Unset: only the run's own Service.",
    )
    replicas: int = Field(default=1, ge=1, le=64, description="Model servers.")
    max_cost: Decimal | None = Field(
        default=None,
        description='Most that serving may cost, in the currency of the run, e.g. "200"; beside `budget`, which covers'
        " what comes before. At the limit the model servers are removed until it is raised. Unset: no limit.",
    )
    engine: Engine = Field(default_factory=Engine, description="How vLLM serves the model.")
    pod: PodSettings = Field(default_factory=PodSettings, description="Settings of its pods.")


class SecretKey(ApiModel):
    """One key of a Secret in the run's namespace."""

    name: ObjectName = Field(description="Name of the Secret.")
    key: str = Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253, description="Key in it.")
