"""Curation from questions to data set: ask, record, judge, write. Each goes on where a killed process stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

from distillstages.common import logs, reasons
from distillstages.common.artifacts import PARTIAL
from distillstages.common.blocks import Curate
from distillstages.common.exit import ConfigFault, DataFault, Temporary, Terminated
from distillstages.common.files import storage_errors
from distillstages.common.progress import Progress
from distillstages.common.sources import Question, read_questions, unique
from distillstages.common.verify import Verifier
from distillstages.common.worker import Context
from distillstages.curate import dataset, mixture, recorded, request, selection
from distillstages.curate.backoff import Backoff
from distillstages.curate.card import card
from distillstages.curate.funnel import Funnel, by_frequency, gauge
from distillstages.curate.htmlpage import page as pages_html
from distillstages.curate.journal import Journal, Key
from distillstages.curate.pace import Pacer, Paused
from distillstages.curate.records import Answer, fault_of, length_of, trace_of
from distillstages.curate.screening import Filtered, screen
from distillstages.curate.selection import Judged
from distillstages.curate.teacher import Teacher

_log = logging.getLogger("distillstages.curate")
_CLAIM_SECONDS: Final = 15.0
_DRAIN_SECONDS: Final = 20.0
_WAITING_VERDICTS: Final = 256
# More than there are checking processes: most answers need none, and verdicts written together share one fsync.
_JUDGES: Final = 32
_SAMPLED_ACCEPTED: Final = 8
_SAMPLED_REJECTED: Final = 8
OUTPUTS: Final = {
    "dataset": "dataset/",
    "rejected": "rejected/",
    "filtered": "filtered/",
    "sample": "sample.md",
    "page": "sample.html",
    "card": "README.md",
    "funnel": "funnel.json",
}
PAGES: Final = ("sample.md", "sample.html", "README.md", "funnel.json")


class Curation:
    """One run of the curate stage. `backoff` is for tests."""

    def __init__(self, context: Context, *, backoff: Backoff | None = None) -> None:
        assert context.config.curate is not None
        self.context = context
        self.config: Curate = context.config.curate
        assert self.config.teacher is not None
        self.teacher = self.config.teacher
        self.output = context.output
        self.metrics = context.metrics
        self.backoff = backoff
        self.questions: list[Question] = []
        self.by_key: dict[str, Question] = {}
        self.wanted = 0
        self.recorded = 0
        self.filtered: list[Filtered] = []
        self.funnel = Funnel()
        self.domains = {s.name: s.domain for s in self.config.sources}
        self.mixture: list[dict[str, Any]] = []
        self.tally: Counter[str | None] = Counter()
        self.stopping = asyncio.Event()

    async def run(self) -> dict[str, Any]:
        """Returns the headline numbers, after publishing. Raises StageError."""
        api_key = self._api_key()
        self.questions = await asyncio.to_thread(self._read_sources)
        self.by_key = {q.key: q for q in self.questions}
        self._watch_signals()
        self.journal = await Journal.open(self.output, asking=[request.identity(self.teacher, self.config.generate)])
        try:
            self.wanted = len(self._keys())
            with Progress(self.metrics, unit="questions", total=self.wanted) as self.progress:
                await self._take_over()
                postponed = await self._ask_and_judge(api_key)
            if self.stopping.is_set():
                raise self._stopped()
            if postponed is not None:
                raise postponed
            return await asyncio.to_thread(self._publish)
        finally:
            self.context.spent.update(self._paid())
            await self.journal.close()

    def _api_key(self) -> str | None:
        wanted = self.teacher.api_key
        if wanted is None:
            return None
        value = os.environ.get(wanted.env, "").strip()
        if not value:
            raise ConfigFault(
                f"the teacher's key is not there: the environment variable {wanted.env} is empty; put it into the key "
                f"{wanted.key!r} of the Secret {wanted.secret!r}",
                reason=reasons.TEACHER_UNAUTHORIZED,
            )
        logs.register_secret(value)
        return value

    def _read_sources(self) -> list[Question]:
        pools: list[Question] = []
        repetitions = 0
        for source in self.config.sources:
            found, repeated = unique(read_questions(mixture.to_be_read(source)))
            _log.info(
                "source read",
                extra={"fields": {"source": source.name, "questions": len(found), "duplicates": repeated}},
            )
            pools += found
            repetitions += repeated
        self.funnel.add("read", "questions", len(pools) + repetitions, {reasons.DUPLICATE: repetitions})
        pools, self.filtered = screen(pools, self.config.deduplicate, self.config.decontaminate, self.funnel)
        drawn = self._draw(pools)
        if not drawn:
            raise DataFault(
                f"no question is left to ask: {self.funnel.why()}; check the sources, and curate.decontaminate",
                reason=reasons.NOTHING_ACCEPTED,
            )
        return drawn

    def _draw(self, questions: list[Question]) -> list[Question]:
        """The mixture, out of what is left of each source."""
        pools = [[q for q in questions if q.source == source.name] for source in self.config.sources]
        drawn = mixture.draw(self.config.sources, pools, self.context.config.seed)
        self.mixture = [
            {"source": source.name, "questions": len(some), "of": len(pool)}
            for source, some, pool in zip(self.config.sources, drawn, pools, strict=True)
        ]
        _log.info("mixture drawn", extra={"fields": {"mixture": self.mixture}})
        kept = [question for some in drawn for question in some]
        if len(kept) < len(questions):
            self.funnel.add("mix", "questions", len(questions), {reasons.NOT_DRAWN: len(questions) - len(kept)})
        return kept

    def _keys(self) -> list[Key]:
        return [(q.key, s) for q in self.questions for s in range(self.config.generate.samples)]

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        if self.context.stopping.is_set():
            self.stopping.set()

    def _judging(self, key: Key) -> str:
        return recorded.judging(self.config.verify, self.by_key[key[0]])

    async def _take_over(self) -> None:
        """Begin with what other curations have been answered."""
        teacher, generate = self.teacher, self.config.generate
        said = {q.key: request.identity(teacher, generate, q.question) for q in self.questions}
        wanted = {key: said[key[0]] for key in self._keys()}
        self.recorded = sum(key in self.journal.entries for key in wanted)

        def took(answers: int) -> None:
            self.recorded += answers
            self.progress.update(self.recorded)

        asking = request.identity(teacher, generate)
        await recorded.take_over(
            self.journal, self.output, asking, wanted, judging=self._judging, stopping=self.stopping, took=took
        )

    async def _ask_and_judge(self, api_key: str | None) -> Temporary | None:
        """Returns why the rest has to wait for another day; None when nothing is left to ask."""
        keys = self._keys()
        missing = [k for k in keys if k not in self.journal.entries]
        self.missing = iter(missing)
        self.recorded = len(keys) - len(missing)
        unjudged = [k for k in keys if k in self.journal.entries and self.journal.entries[k].verdict is None]
        self.tally = Counter(e.verdict[0] for k in keys if (e := self.journal.entries.get(k)) and e.verdict is not None)
        self._show()
        queue: asyncio.Queue[Key] = asyncio.Queue(_WAITING_VERDICTS)
        pacer = Pacer(
            self.teacher,
            self.journal,
            self.journal.reserved,
            continued=self.journal.continued,
            stopping=self.stopping,
        )
        teacher = Teacher(
            self.teacher,
            self.config.generate,
            api_key=api_key,
            backoff=self.backoff,
            pacer=pacer,
            answered=self.journal.successes,
            remaining=lambda: self.wanted - self.recorded,
        )
        async with teacher, Verifier(timeout_seconds=self.config.verify.timeout_seconds) as verifier:
            async with asyncio.TaskGroup() as background:
                helpers = [background.create_task(self._watch_claim())]
                helpers += [background.create_task(self._judge(queue, verifier)) for _ in range(_JUDGES)]
                drain = background.create_task(self._drain_limit())
                async with asyncio.TaskGroup() as askers:
                    askers.create_task(self._judge_again(unjudged, queue))
                    for _ in range(min(self.teacher.max_concurrency, self.wanted - self.recorded)):
                        askers.create_task(self._ask(teacher, queue))
                await pacer.close()
                await queue.join()
                for task in (*helpers, drain):
                    task.cancel()
        return pacer.postponed(teacher.who(), self.wanted - self.recorded) if pacer.exhausted else None

    async def _ask(self, teacher: Teacher, queue: asyncio.Queue[Key]) -> None:
        for key in self.missing:
            if self.stopping.is_set():
                return
            question = self.by_key[key[0]]
            try:
                answer = await teacher.ask(question.key, key[1], question.question)
            except Paused:
                return  # those on their way are waited for and recorded
            # On disk first; only then does anything count it, and only then is the next question asked.
            await self.journal.append(answer)
            self.recorded += 1
            self._show()
            await queue.put(key)

    async def _judge_again(self, keys: list[Key], queue: asyncio.Queue[Key]) -> None:
        for key in keys:
            await queue.put(key)

    async def _judge(self, queue: asyncio.Queue[Key], verifier: Verifier) -> None:
        while True:
            key = await queue.get()
            answer = self.journal.read(key)
            reason, detail = await self._verdict(answer, verifier)
            await self.journal.judge(key, reason, detail, self._judging(key))
            self.tally[reason] += 1
            self._show()
            queue.task_done()

    async def _verdict(self, answer: Answer, verifier: Verifier) -> tuple[str | None, str]:
        trace = trace_of(answer)
        fault = fault_of(answer, trace)
        if fault:
            return fault
        question = self.by_key[answer.key]
        verdict = await verifier.verdict(question.reference, trace.response, question.choices)
        return verdict.reason, verdict.detail

    async def _watch_claim(self) -> None:
        """A newer attempt has taken over: stop spending money on what cannot be published."""
        while True:
            await asyncio.sleep(_CLAIM_SECONDS)
            await asyncio.to_thread(self.output.check_claim)

    async def _drain_limit(self) -> None:
        """After SIGTERM the answers on their way have so long to arrive and be recorded."""
        await self.stopping.wait()
        _log.warning("asked to stop: waiting for the answers on their way")
        await asyncio.sleep(_DRAIN_SECONDS)
        raise self._stopped()

    def _stopped(self) -> Terminated:
        return Terminated(
            f"asked to stop; {self.recorded} of {self.wanted} answers are recorded and the next attempt continues "
            "from them"
        )

    def _show(self) -> None:
        accepted, rejected = gauge(self.metrics, self.tally)
        self.metrics.set("completion_tokens", self.journal.completion_tokens)
        self.metrics.set("paid_prompt_tokens", self.journal.paid_prompt_tokens)
        self.metrics.set("paid_completion_tokens", self.journal.paid_completion_tokens)
        self.progress.update(
            self.recorded,
            accepted=accepted,
            rejected=rejected,
            tokens=self.journal.completion_tokens,
        )

    def _publish(self) -> dict[str, Any]:
        """Write the data set and the result. Raises DataFault NothingAccepted when there is nothing to train on."""
        self.output.check_claim()
        parent = self.output.folder(PARTIAL) if self.output.is_local else None
        with storage_errors(self.output.url(PARTIAL)), tempfile.TemporaryDirectory(prefix="build-", dir=parent) as name:
            build = Path(name)
            numbers = self._write(build)
            self.output.check_claim()
            for kind in ("rejected", "filtered"):
                self.output.install(build / f"{kind}.parquet", f"{kind}/part-00000.parquet")
            for page in PAGES:
                self.output.install(build / page, page)
            if not numbers["accepted"]:
                for name in (*PAGES, "rejected/part-00000.parquet", "filtered/part-00000.parquet"):
                    self.output.show(name)
                raise self._nothing_accepted(numbers)
            self.output.install(build / "dataset.parquet", "dataset/part-00000.parquet")
        teacher = self.teacher
        details = {
            "teacher": {"name": teacher.name, "model": teacher.model, "termsReference": teacher.terms_reference},
            "sources": [s.uri for s in self.config.sources],
            "mixture": self.mixture,
            "seed": self.context.config.seed,
            "uncheckedRevisions": [s.name for s in self.config.sources if s.unchecked],
        }
        return dict(self.output.publish(numbers, OUTPUTS, details=details).numbers)

    def _numbers(self, judged: list[Judged], tokens: int) -> dict[str, Any]:
        fates = Counter(each.fate for each in judged)
        accepted = fates.pop(None, 0)
        return {
            "questions": len(self.questions),
            "accepted": accepted,
            "rejected": fates.total(),
            "rejectedByReason": by_frequency({str(fate): number for fate, number in fates.items()}),
            "duplicates": self.funnel.removed(reasons.DUPLICATE),
            "contaminated": self.funnel.removed(reasons.CONTAMINATED),
            "funnel": self.funnel.numbers(),
            "requests": self.journal.requests,
            "reusedAnswers": self.journal.reused,
            "promptTokens": self.journal.prompt_tokens,
            "completionTokens": self.journal.completion_tokens,
            **({"datasetTokens": tokens} if tokens else {}),
            **self._paid(),
        }

    def _paid(self) -> dict[str, int]:
        """Tokens that this run has paid for. The operator counts on these names."""
        return {
            "paidPromptTokens": self.journal.paid_prompt_tokens,
            "paidCompletionTokens": self.journal.paid_completion_tokens,
        }

    def _judged(self) -> list[Judged]:
        """All answers in the order of the questions, with what becomes of each; closes the funnel."""
        found: list[Judged] = []
        for question in self.questions:
            for sample in range(self.config.generate.samples):
                verdict = self.journal.entries[question.key, sample].verdict
                assert verdict is not None
                found.append(Judged(question, sample, *verdict, keep_wrong=self.config.verify.wrong == "Keep"))
        self.funnel.add("verify", "traces", len(found), Counter(j.fate for j in found if j.fate))
        selection.narrow(self.config.select, found, self._length, self.domains, self.context.config.seed, self.funnel)
        return found

    def _length(self, judged: Judged) -> int:
        return length_of(self.journal.read((judged.question.key, judged.sample)))

    def _write(self, build: Path) -> dict[str, Any]:
        """All files of the artifact; returns the stage's numbers."""
        judged = self._judged()
        for line in self.funnel.fields():
            _log.info("funnel", extra={"fields": line})
        seed = self.context.config.seed
        shown = dataset.choose([i for i, j in enumerate(judged) if j.fate is None], _SAMPLED_ACCEPTED, seed)
        shown |= dataset.choose([i for i, j in enumerate(judged) if j.fate is not None], _SAMPLED_REJECTED, seed)
        sampled = []
        tokens, counted = 0, True  # some servers count no tokens
        with (
            dataset.Writer(build / "dataset.parquet", dataset.COLUMNS) as good,
            dataset.Writer(build / "rejected.parquet", dataset.REJECTED_COLUMNS) as bad,
        ):
            for position, each in enumerate(judged):
                answer = self.journal.read((each.question.key, each.sample))
                row = dataset.row_of(each.question, each.sample, trace_of(answer))
                if each.fate is None:
                    good.add(row)
                    tokens += answer.prompt_tokens + answer.completion_tokens
                    counted = counted and answer.completion_tokens > 0
                else:
                    row |= {"reason": each.fate, "detail": each.detail}
                    bad.add(row)
                if position in shown:
                    sampled.append(row)
        with dataset.Writer(build / "filtered.parquet", dataset.FILTERED_COLUMNS) as out:
            for left_out in self.filtered:
                out.add(dataset.filtered_row(*left_out))
        numbers = self._numbers(judged, tokens if counted else 0)
        self._write_pages(build, numbers, sampled)
        return numbers

    def _write_pages(self, build: Path, numbers: dict[str, Any], sampled: list[dict[str, Any]]) -> None:
        teacher = self.teacher
        summary = [
            ("teacher", f"{teacher.name}: {teacher.model}"),
            ("terms", teacher.terms_reference or "none given"),
            *map(dataset.revision_line, self.config.sources),
            *((name, str(numbers[name])) for name in ("questions", "accepted", "rejected", "duplicates")),
            *((f"rejected: {reason}", str(number)) for reason, number in numbers["rejectedByReason"].items()),
            *((f"questions of {each['source']}", f"{each['questions']} of {each['of']}") for each in self.mixture),
        ]
        title = f"Traces of {self.context.config.run.name}"
        pages = {
            "sample.md": dataset.sample_page(title, summary, sampled),
            "sample.html": pages_html(title, summary, self.funnel, sampled),
            "README.md": card(title, self.config, self.context.config.seed, self.mixture, self.funnel),
            "funnel.json": self.funnel.document(),
        }
        for name, text in pages.items():
            (build / name).write_text(text, encoding="utf-8")

    def _nothing_accepted(self, numbers: dict[str, Any]) -> DataFault:
        why = ", ".join(f"{reason} {number}" for reason, number in numbers["rejectedByReason"].items())
        return DataFault(
            f"none of {numbers['rejected']} answers of teacher {self.teacher.name!r} was accepted ({why}); see "
            f"{self.output.url('rejected/')} and check the references and the teacher",
            reason=reasons.NOTHING_ACCEPTED,
        )
