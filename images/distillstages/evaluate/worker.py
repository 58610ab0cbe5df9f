"""The evaluate stage's work: for each model a vLLM of its own, every benchmark, records, scores."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from distillstages.common import enginemodel, letters, reasons
from distillstages.common.artifacts import PARTIAL
from distillstages.common.blocks import Evaluate, EvaluatedModel
from distillstages.common.codetests import Unusable
from distillstages.common.engine import Engine, Launch
from distillstages.common.enginemetrics import Watch
from distillstages.common.enginemodel import EngineModel
from distillstages.common.exit import ConfigFault, DataFault
from distillstages.common.progress import Progress
from distillstages.common.sources import read_questions, unique
from distillstages.common.worker import Context, run
from distillstages.evaluate import records, scores
from distillstages.evaluate.asking import Asker, Examination, Task, missing
from distillstages.evaluate.records import Journal, Record
from distillstages.evaluate.scores import Score

_log = logging.getLogger("distillstages.evaluate")
_OWN_ARGUMENTS: Final = ("--disable-uvicorn-access-log",)


def body(context: Context) -> Mapping[str, Any]:
    """Score every model in every benchmark and publish. Returns the termination numbers.

    What the input gets wrong is found before a model is loaded: DataFault, ConfigFault."""
    config = context.config.evaluate
    assert config is not None
    names = artifact_names(config)
    enginemodel.check_arguments(config.engine.vllm_args)
    examinations = [examine(b) for b in config.benchmarks]
    models = {m.name: enginemodel.resolve(m.name, m.uri, m.revision) for m in config.models}
    with ExitStack() as stack:
        work = _work_folder(context, stack)
        evaluation = _Evaluation(context, config, examinations, work)
        stack.enter_context(evaluation.progress)
        found = [s for m in config.models for s in evaluation.score_model(m, models[m.name], names)]
    context.output.check_claim()
    context.output.put("scores.json", scores.document(found, _settings(context, config)))
    numbers = {"scores": [s.numbers() for s in found]}
    outputs = {"scores": "scores.json", "records": "records/"}
    result = context.output.publish(numbers, outputs, details={"scores": [s.details() for s in found]})
    context.output.remove(PARTIAL)
    return result.numbers


def artifact_names(config: Evaluate) -> dict[tuple[str, str], str]:
    """The artifact of each (benchmark, model). Raises ConfigFault when two pairs would share one."""
    names: dict[tuple[str, str], str] = {}
    for benchmark in config.benchmarks:
        for model in config.models:
            name = f"records/{benchmark.name}-{model.name}.jsonl"
            if name in names.values():
                raise ConfigFault(f"two benchmarks and models share the file {name}; rename benchmark or model")
            names[benchmark.name, model.name] = name
    return names


def examine(benchmark: Any) -> Examination:
    """Read a benchmark's questions; repeated ones are asked once. Raises DataFault, also where letters are graded and
    a reference is none, and where code is graded and tests cannot be used: a score is of all questions or of none."""
    questions, duplicates = unique(read_questions(benchmark))
    for question in questions:
        if isinstance(question.tests, Unusable):
            raise DataFault(
                f"benchmark {benchmark.name!r}: question {question.id} cannot be graded: {question.tests.detail}; take"
                " it out of the data, or take fewer rows",
                reason=question.tests.reason,
            )
    if benchmark.grader == "MultipleChoice":
        for question in questions:
            allowed = letters.LETTERS[: question.choices or letters.USUAL]
            if (letters.of_reference(question.reference) or "?") not in allowed:
                raise DataFault(
                    f"benchmark {benchmark.name!r}: the reference answer of question {question.id} is "
                    f"{question.reference[:100]!r}, expected a letter from A to {allowed[-1]}: "
                    "map the right column with fields.answer, or set grader: Math",
                    reason=reasons.ROW_BROKEN,
                )
    if duplicates:
        _log.warning("benchmark %s: %d repeated questions are asked once", benchmark.name, duplicates)
    return Examination(benchmark, questions)


def _work_folder(context: Context, stack: ExitStack) -> Path:
    """Where the journals lie: with the output, or beside us when that is an object store (then a restarted evaluation
    begins anew)."""
    if context.output.is_local:
        return context.output.folder(PARTIAL)
    return Path(stack.enter_context(tempfile.TemporaryDirectory()))


def _settings(context: Context, config: Evaluate) -> dict[str, Any]:
    """What the scores hold for."""
    return {
        "seed": context.config.seed,
        **config.model_dump(by_alias=True, include={"models", "benchmarks", "engine", "trace_format", "system_prompt"}),
    }


class _Evaluation:
    """The state of one run of this stage: progress and the tallies behind the accuracy gauges."""

    def __init__(self, context: Context, config: Evaluate, examinations: list[Examination], work: Path) -> None:
        self.context = context
        self.config = config
        self.examinations = examinations
        self.journals = {
            (e.benchmark.name, m.name): Journal(work / m.name / f"{e.benchmark.name}.jsonl")
            for m in config.models
            for e in examinations
        }
        self.tallies: dict[tuple[str, str], list[int]] = {}
        for examination in examinations:
            for model in config.models:
                kept = examination.kept(self.journals[examination.benchmark.name, model.name])
                self.tallies[examination.benchmark.name, model.name] = [sum(r.correct for r in kept), len(kept)]
        total = len(config.models) * sum(e.answers for e in examinations)
        self.progress = Progress(
            context.metrics, unit="answers", total=total, done=sum(answered for _, answered in self.tallies.values())
        )
        for benchmark, name in self.tallies:
            self._show(benchmark, name)

    def score_model(
        self, model: EvaluatedModel, resolved: EngineModel, names: Mapping[tuple[str, str], str]
    ) -> list[Score]:
        """One model through every benchmark; its server runs only while answers are missing."""
        open_tasks = [
            task
            for e in self.examinations
            for task in missing(e, self.journals[e.benchmark.name, model.name], self.context.config.seed)
        ]
        if open_tasks:
            self._ask(model, resolved, open_tasks)
        found = []
        for examination in self.examinations:
            benchmark = examination.benchmark
            journal = self.journals[benchmark.name, model.name]
            journal.close()
            ordered = examination.kept(journal)
            self.context.output.check_claim()
            self.context.output.put(names[benchmark.name, model.name], records.artifact(ordered))
            found.append(
                scores.score(benchmark.name, model.name, len(examination.questions), benchmark.samples, ordered)
            )
            _log.info("scored", extra={"fields": found[-1].details()})
        return found

    def _ask(self, model: EvaluatedModel, resolved: EngineModel, tasks: list[Task]) -> None:
        context, engine_config = self.context, self.config.engine
        launch = Launch(
            resolved,
            model.name,
            tensor_parallel=engine_config.tensor_parallel,
            max_model_length=engine_config.max_model_length,
            user_arguments=engine_config.vllm_args,
            own_arguments=_OWN_ARGUMENTS,
        )
        self._state("loading", model.name)
        with Engine(launch) as engine:
            seconds = engine.wait_healthy(stopping=context.stopping, waiting=self._loading)
            _log.info("vLLM answers for model %s after %.1f s", model.name, seconds)
            self._state("answering", model.name)
            asker = Asker(
                engine,
                concurrency=min(engine_config.max_concurrency, len(tasks)),
                trace_format=self.config.trace_format,
                system_prompt=self.config.system_prompt,
                sandbox=self.config.sandbox,
                answered=lambda task, record: self._answered(task, model.name, record),
                stopping=context.stopping,
            )
            with Watch(engine.url, context.metrics):
                asker.run(iter(tasks))
            self._state("stopping", model.name)

    def _loading(self, elapsed: float) -> None:
        # Moves while a model loads, so that whoever watches sees that the stage is not stuck.
        self.context.metrics.set("engine_loading_seconds", round(elapsed))
        self.progress.update(loading_seconds=round(elapsed))

    def _state(self, state: str, model: str) -> None:
        for each in ("loading", "answering", "stopping"):
            self.context.metrics.set("engine_state", float(each == state), state=each)
        self.progress.update(state=state, model=model)
        self.progress.log_line()

    def _answered(self, task: Task, model: str, record: Record) -> None:
        benchmark = task.examination.benchmark.name
        tally = self.tallies[benchmark, model]
        tally[0] += record.correct
        tally[1] += 1
        self._show(benchmark, model)
        self.progress.advance(accuracy=round(tally[0] / tally[1], 4))

    def _show(self, benchmark: str, model: str) -> None:
        right, answered = self.tallies[benchmark, model]
        if answered:
            self.context.metrics.set("accuracy", right / answered, benchmark=benchmark, model=model)


if __name__ == "__main__":
    run("evaluate", body, graceful=True)
