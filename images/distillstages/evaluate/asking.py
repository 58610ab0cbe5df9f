"""Ask one model the questions that have no record yet: bounded concurrency, each answer graded and kept at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from distillstages.common import letters, reasons
from distillstages.common.blocks import Benchmark, Sandbox
from distillstages.common.exit import Terminated
from distillstages.common.grading import Grader
from distillstages.common.sources import Question
from distillstages.common.traceformat import Trace, TraceFormat, default_system_prompt, split
from distillstages.evaluate.chat import Answer, Chat, PromptTooLong, Sampling, Server
from distillstages.evaluate.records import Journal, Record
from distillstages.evaluate.scores import PROMPT_TOO_LONG

_SEEDS = 1 << 31


@dataclass(frozen=True)
class Examination:
    """A benchmark with its questions, without repetitions."""

    benchmark: Benchmark
    questions: list[Question]

    @property
    def answers(self) -> int:
        """How many answers it takes: questions times samples."""
        return len(self.questions) * self.benchmark.samples

    def choices(self, question: Question) -> int:
        """Among how many letters an answer chooses, 0: the answers are mathematics, or code."""
        return question.choices or (letters.USUAL if self.benchmark.grader == "MultipleChoice" else 0)

    def kept(self, journal: Journal) -> list[Record]:
        """The records that answer this examination, in its order. One made for another reference answer (the data
        behind the URI was changed) does not."""
        found = []
        for question in self.questions:
            for sample in range(self.benchmark.samples):
                record = journal.records.get((question.key, sample))
                if record is not None and record.reference == question.reference:
                    found.append(record)
        return found


@dataclass(frozen=True)
class Task:
    """One answer that is missing."""

    examination: Examination
    journal: Journal
    question: Question
    sample: int
    seed: int


def missing(examination: Examination, journal: Journal, seed: int) -> Iterator[Task]:
    """The answers that the journal does not hold. Every (question, sample) has a seed of its own, the same in every
    attempt."""
    answered = {(record.key, record.sample) for record in examination.kept(journal)}
    for index, question in enumerate(examination.questions):
        for sample in range(examination.benchmark.samples):
            if (question.key, sample) not in answered:
                own = (seed + index * examination.benchmark.samples + sample) % _SEEDS
                yield Task(examination, journal, question, sample, own)


def messages(question: str, trace_format: TraceFormat, system_prompt: str | None) -> list[dict[str, str]]:
    """[system?, user]: the prompt that the student was trained on. Without a system prompt of the spec the format's own
    is used, and where it has none the tokenizer's chat template decides."""
    system = system_prompt if system_prompt is not None else default_system_prompt(trace_format)
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": question}]


class Asker:
    """Asks tasks of one server. `answered(task, record)` is called in the event loop's thread once a record is kept."""

    def __init__(
        self,
        server: Server,
        *,
        concurrency: int,
        trace_format: TraceFormat,
        system_prompt: str | None,
        sandbox: Sandbox | None,
        answered: Callable[[Task, Record], None],
        stopping: threading.Event,
    ) -> None:
        self._server = server
        self._concurrency = concurrency
        self._trace_format: TraceFormat = trace_format
        self._system_prompt = system_prompt
        self._sandbox = sandbox
        self._answered = answered
        self._stopping = stopping

    def run(self, tasks: Iterator[Task]) -> None:
        """Work through all tasks. Raises what stops it: Fault EngineFailed, ConfigFault, Terminated, DiskFull,
        Temporary SandboxUnavailable."""
        asyncio.run(self._run(tasks))

    async def _run(self, tasks: Iterator[Task]) -> None:
        async with Chat(self._server, concurrency=self._concurrency) as chat, Grader(self._sandbox) as grader:
            workers = {asyncio.create_task(self._work(tasks, chat, grader)) for _ in range(self._concurrency)}
            watch = asyncio.create_task(self._watch())
            at_work = set(workers)
            try:
                while at_work:
                    done, _ = await asyncio.wait({*at_work, watch}, return_when=asyncio.FIRST_COMPLETED)
                    for ended in done:
                        ended.result()  # raises what ended it
                    at_work -= done
            finally:
                for each in (*workers, watch):
                    each.cancel()
                await asyncio.gather(*workers, watch, return_exceptions=True)

    async def _watch(self) -> None:
        while not self._stopping.is_set():
            await asyncio.sleep(0.2)
        raise Terminated("asked to stop; the answers so far are kept and the next attempt asks only the rest")

    async def _work(self, tasks: Iterator[Task], chat: Chat, grader: Grader) -> None:
        for task in tasks:  # one iterator for all workers: each takes the next
            record = await self._record(task, chat, grader)
            task.journal.append(record)
            self._answered(task, record)

    async def _record(self, task: Task, chat: Chat, grader: Grader) -> Record:
        benchmark = task.examination.benchmark
        prompt = messages(task.question.question, self._trace_format, self._system_prompt)
        sampling = Sampling(benchmark.temperature, benchmark.top_p, benchmark.max_tokens, task.seed)
        try:
            answer = await chat.ask(prompt, sampling)
        except PromptTooLong:
            return _record(task, Trace("", ""), None, False, reasons.TRUNCATED, Answer("", None, PROMPT_TOO_LONG, 0))
        trace = parts(self._trace_format, answer)
        verdict = await grader.verdict(task.question, trace.response, task.examination.choices(task.question))
        reason = verdict.reason
        if not verdict.accepted and answer.finish_reason == "length" and verdict.extracted is None:
            reason = reasons.TRUNCATED
        return _record(task, trace, verdict.extracted, verdict.accepted, reason, answer)


def parts(trace_format: TraceFormat, answer: Answer) -> Trace:
    """Thinking and visible response of an answer, of which only the response is graded."""
    if answer.thinking is not None:
        return Trace(answer.thinking, answer.text)
    return split(trace_format, answer.text)


def _record(
    task: Task, trace: Trace, extracted: str | None, correct: bool, reason: str | None, answer: Answer
) -> Record:
    question = task.question
    return Record(
        key=question.key,
        id=question.id,
        sample=task.sample,
        question=question.question,
        reference=question.reference,
        thinking=trace.thinking,
        response=trace.response,
        extracted=extracted,
        correct=correct,
        reason=reason,
        finish_reason=answer.finish_reason,
        tokens=answer.tokens,
    )
