"""Curation from questions to data set: ask, record, judge, write. Each goes on where a killed process stopped."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from distillstages.common.blocks import Curate, Domains, Generate, ReasoningDelimiters, Rewrite
from distillstages.common.exit import Terminated
from distillstages.common.grading import Grader
from distillstages.common.progress import Progress
from distillstages.common.sources import Question
from distillstages.common.worker import Context
from distillstages.curate import difficulty, domains, pool, recorded, request, rewrite, scores
from distillstages.curate.backoff import Backoff
from distillstages.curate.campaign import AskedModel, Campaign, Judge, Verdict, api_key, question_key
from distillstages.curate.funnel import gauge
from distillstages.curate.journal import Journal, Key
from distillstages.curate.pool import Pool
from distillstages.curate.publish import Publication, traces
from distillstages.curate.records import Answer, fault_of, trace_of

_log = logging.getLogger("distillstages.curate")
_CLAIM_SECONDS: Final = 15.0
_DRAIN_SECONDS: Final = 20.0
_TRACES: Final = "traces"


def _of_nobody_else(key: Key) -> str:
    """Verdicts that are no other curation's: they are cheap."""
    return ""


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
        self.models: dict[str, AskedModel] = {}
        self.by_key: dict[str, Question] = {}
        self.planned: dict[str, int] = {}
        self.campaigns: dict[str, Campaign] = {}
        self.answered: list[Question] = []
        self.stopping = asyncio.Event()

    async def run(self) -> dict[str, Any]:
        """Returns the headline numbers, after publishing. Raises StageError."""
        roles = {name: "teacher" if name == self.teacher.name else "model" for name in self.config.endpoints}
        api_keys = {name: api_key(endpoint, roles[name]) for name, endpoint in self.config.endpoints.items()}
        self.pool: Pool = await asyncio.to_thread(pool.read, self.config, self.context.config.seed)
        self.by_key = {q.key: q for q in self.pool.questions}
        self._watch_signals()
        journals: dict[str, Journal] = {}
        try:
            for name, endpoint in self.config.endpoints.items():
                is_teacher = roles[name] == "teacher"
                asking = [request.identity(endpoint, generate) for generate in self._ways_to_ask(name)]
                journals[name] = await Journal.open(self.output, "" if is_teacher else name, asking=asking)
                self.models[name] = AskedModel(
                    endpoint,
                    journals[name],
                    self.output,
                    self.stopping,
                    key=api_keys[name],
                    role=roles[name],
                    backoff=self.backoff,
                )
            self.journal = journals[self.teacher.name]
            self.planned = self._plan()
            with Progress(self.metrics, unit="questions", total=sum(self.planned.values())) as self.progress:
                await self._ask_everybody()
            publication = Publication(self.context, self.pool, journals, self.answered)
            return await asyncio.to_thread(publication.publish, self._paid())
        finally:
            self.context.spent.update(self._paid())
            for journal in journals.values():
                await journal.close()

    def _plan(self) -> dict[str, int]:
        """Answers that each step needs at most: the first guess of what there is to do."""
        questions, config = len(self.pool.questions), self.config
        planned = {_TRACES: questions * config.generate.samples}
        if config.difficulty is not None:
            planned |= {
                f"{difficulty.STEP}/{m}": questions * config.difficulty.samples for m in config.difficulty.models
            }
        if config.domains is not None and config.domains.model is not None:
            planned[domains.STEP] = questions
        if config.rewrite is not None:
            planned[rewrite.STEP] = planned[_TRACES]
        return planned

    def _ways_to_ask(self, name: str) -> list[Generate]:
        """How the steps ask a model."""
        config = self.config
        ways = [config.generate] if name == self.teacher.name else []
        if config.difficulty is not None and name in config.difficulty.models:
            ways.append(difficulty.generate(config.difficulty))
        if config.domains is not None and name == config.domains.model:
            ways.append(domains.generate(config.domains))
        if config.rewrite is not None and name == config.rewrite.model:
            ways.append(rewrite.generate(config.rewrite))
        return ways

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        if self.context.stopping.is_set():
            self.stopping.set()

    async def _ask_everybody(self) -> None:
        """All steps that ask, one after the other. Raises StageError."""
        timeout = self.config.verify.timeout_seconds
        async with Grader(self.config.sandbox, timeout_seconds=timeout) as self.grader:
            async with asyncio.TaskGroup() as background:
                watchers = [background.create_task(self._watch_claim()), background.create_task(self._drain_limit())]
                if self.config.difficulty is not None:
                    await self._measure_difficulty()
                if self.config.domains is not None and self.config.domains.model is not None:
                    await self._label(self.config.domains, self.config.domains.model)
                await self._ask(
                    _TRACES, self.teacher.name, self.config.generate, self._keys(), self._question, self._check_trace
                )
                if self.config.rewrite is not None:
                    await self._rewrite(self.config.rewrite)
                for task in watchers:
                    task.cancel()

    async def _measure_difficulty(self) -> None:
        """Weaker models answer, or one rates; what is too easy or too hard leaves the pool."""
        config = self.config.difficulty
        assert config is not None

        async def rate(answer: Answer) -> Verdict:
            return scores.verdict(answer)

        def rating(key: Key) -> str:
            return scores.prompt(self.by_key[question_key(key[0])])

        text, judge = (rating, rate) if config.keep == "Score" else (self._question, self._check)
        journals = {name: self.models[name].journal for name in config.models}
        generate, self.answered = difficulty.generate(config), self.pool.questions
        for name in config.models:
            questions = difficulty.undecided(config, self.pool.questions, journals, name)
            keys = difficulty.keys(config, questions)
            await self._ask(f"{difficulty.STEP}/{name}", name, generate, keys, text, judge)
        self.pool.leave_out(difficulty.STEP, lambda question: difficulty.why(config, question, journals))

    async def _label(self, config: Domains, labeler: str) -> None:
        """A labeler gives each question its domain."""

        async def judge(answer: Answer) -> Verdict:
            return domains.verdict(config, answer)

        def prompt(key: Key) -> str:
            return domains.prompt(config, self.by_key[question_key(key[0])])

        keys = domains.keys(self.pool.questions)
        await self._ask(domains.STEP, labeler, domains.generate(config), keys, prompt, judge)
        domains.apply(self.pool, self.models[labeler].journal)

    async def _rewrite(self, config: Rewrite) -> None:
        """Another model writes the accepted traces anew, and the rewritings are checked as the traces were."""

        async def judge(answer: Answer) -> Verdict:
            return rewrite.verdict(trace_of(answer), await self._check(answer))

        def prompt(key: Key) -> str:
            original = question_key(key[0])
            return rewrite.prompt(
                self.by_key[original],
                trace_of(self.journal.read((original, key[1])), self.config.generate.reasoning_delimiters),
            )

        found = traces(self.pool, self.journal, self.config.generate.samples, keep_wrong=False)
        keys = [rewrite.key_of(each.key) for each in found if each.fate is None]
        await self._ask(rewrite.STEP, config.model, rewrite.generate(config), keys, prompt, judge)

    async def _ask(
        self, step: str, model: str, generate: Generate, keys: Sequence[Key], text: Callable[[Key], str], judge: Judge
    ) -> None:
        """One campaign to its end. Raises StageError when there is more to ask than may be asked now."""
        judging = self._judging if step == _TRACES else _of_nobody_else
        campaign = Campaign(self.models[model], generate, keys, text, judge, self._show, judging=judging)
        self.campaigns[step] = campaign
        self.planned[step] = campaign.wanted
        postponed = await campaign.run()
        if self.stopping.is_set():
            raise self._stopped()
        if postponed is not None:
            raise postponed

    def _judging(self, key: Key) -> str:
        """What a verdict on a trace depends on."""
        marks = self.config.generate.reasoning_delimiters
        return recorded.judging(self.config.verify, self.by_key[key[0]], marks)

    def _keys(self) -> list[Key]:
        return [(q.key, s) for q in self.pool.questions for s in range(self.config.generate.samples)]

    def _question(self, key: Key) -> str:
        return self.by_key[question_key(key[0])].question

    async def _check_trace(self, answer: Answer) -> Verdict:
        return await self._verdict(answer, self.config.generate.reasoning_delimiters)

    async def _check(self, answer: Answer) -> Verdict:
        """Of another model than the teacher, whose delimiters are nobody else's."""
        return await self._verdict(answer, None)

    async def _verdict(self, answer: Answer, marks: ReasoningDelimiters | None) -> Verdict:
        trace = trace_of(answer, marks)
        fault = fault_of(answer, trace, marks)
        if fault:
            return fault
        verdict = await self.grader.verdict(self.by_key[question_key(answer.key)], trace.response)
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

    @property
    def _recorded(self) -> int:
        return sum(campaign.recorded for campaign in self.campaigns.values())

    def _stopped(self) -> Terminated:
        return Terminated(
            f"asked to stop; {self._recorded} of {sum(self.planned.values())} answers are recorded and the next attempt"
            " continues from them"
        )

    def _paid(self) -> dict[str, Any]:
        """Tokens that this run has paid for, by model. The operator counts on these names."""
        return {"paid": {name: model.paid for name, model in self.models.items()}}

    def _show(self) -> None:
        tally = self.campaigns[_TRACES].tally if _TRACES in self.campaigns else Counter[str | None]()
        accepted, rejected = gauge(self.metrics, tally)
        tokens = sum(model.journal.completion_tokens for model in self.models.values())
        self.metrics.set("completion_tokens", tokens)
        for name, model in self.models.items():
            self.metrics.set("paid_prompt_tokens", model.journal.paid_prompt_tokens, model=name)
            self.metrics.set("paid_completion_tokens", model.journal.paid_completion_tokens, model=name)
        self.progress.update(
            self._recorded,
            total=sum(self.planned.values()),
            accepted=accepted,
            rejected=rejected,
            tokens=tokens,
        )
