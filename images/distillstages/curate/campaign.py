"""One model asked many questions: every answer is on disk before anything counts it, then it is judged.

Whatever asks a model does it by a `Campaign`: the teacher's traces, the answers of weaker models, labels, rewritings.
It keeps the endpoint's limits, has a bounded number of requests in flight, and goes on where a killed process stopped:
what its model's journal holds is not asked again, and what has no verdict yet is judged.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from distillstages.common import logs, reasons
from distillstages.common.artifacts import Output
from distillstages.common.blocks import Generate
from distillstages.common.blocks import Teacher as Endpoint
from distillstages.common.exit import ConfigFault, Temporary
from distillstages.curate import recorded, request
from distillstages.curate.backoff import Backoff
from distillstages.curate.journal import Journal, Key
from distillstages.curate.pace import Pacer, Paused
from distillstages.curate.records import Answer
from distillstages.curate.teacher import Teacher

_WAITING_VERDICTS: Final = 256
# More than there are checking processes: most answers need none, and verdicts written together share one fsync.
_JUDGES: Final = 32

Verdict = tuple[str | None, str]
"""(reason, detail); the reason is None for an answer that is as it should be."""
Judge = Callable[[Answer], Awaitable[Verdict]]


def question_key(key: str) -> str:
    """The question that an answer's key is about: keys are the question's own, or `<step>/<the question's>`."""
    return key.rpartition("/")[2]


def api_key(endpoint: Endpoint, role: str = "model") -> str | None:
    """The endpoint's key out of the environment, None where it has none. Raises ConfigFault where it is missing."""
    wanted = endpoint.api_key
    if wanted is None:
        return None
    value = os.environ.get(wanted.env, "").strip()
    if not value:
        who = "the teacher's key" if role == "teacher" else f"the key of {role} {endpoint.name!r}"
        raise ConfigFault(
            f"{who} is not there: the environment variable {wanted.env} is empty; put it into the key "
            f"{wanted.key!r} of the Secret {wanted.secret!r}",
            reason=reasons.TEACHER_UNAUTHORIZED,
        )
    logs.register_secret(value)
    return value


class AskedModel:
    """A model that this process asks, for one purpose or several: they share its journal and its pace. `role` is what
    messages call it."""

    def __init__(
        self,
        endpoint: Endpoint,
        journal: Journal,
        output: Output,
        stopping: asyncio.Event,
        *,
        key: str | None,
        role: str = "model",
        backoff: Backoff | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.journal = journal
        self.output = output
        self.stopping = stopping
        self.role = role
        self.backoff = backoff
        self.api_key = key
        self.pacer = Pacer(endpoint, journal, journal.reserved, continued=journal.continued, stopping=stopping)

    @property
    def paid(self) -> dict[str, int]:
        """Tokens that this run has paid for, over all its attempts. The operator counts on these names."""
        return {
            "promptTokens": self.journal.paid_prompt_tokens,
            "completionTokens": self.journal.paid_completion_tokens,
        }


class Campaign:
    """`keys` that a model is to answer: `text(key)` is the prompt, `judge(answer)` the verdict, which is recorded, too;
    `progressed` is called whenever one more is recorded or judged; `judging(key)` identifies the judge for other
    curations, "" where its verdicts are not for them."""

    def __init__(
        self,
        model: AskedModel,
        generate: Generate,
        keys: Sequence[Key],
        text: Callable[[Key], str],
        judge: Judge,
        progressed: Callable[[], None] = lambda: None,
        *,
        judging: Callable[[Key], str],
    ) -> None:
        self._model = model
        self._generate = generate
        self._keys = keys
        self._text = text
        self._judge = judge
        self._progressed = progressed
        self._judging = judging
        self.wanted = len(keys)
        self.recorded = 0
        self.tally: Counter[str | None] = Counter()
        """Verdicts by reason, None for those that are as they should be."""
        self._count()

    def _count(self) -> None:
        """What the journal holds already."""
        entries = self._model.journal.entries
        known = [entries[key] for key in self._keys if key in entries]
        self.recorded = len(known)
        self.tally = Counter(entry.verdict[0] for entry in known if entry.verdict is not None)

    async def run(self) -> Temporary | None:
        """Ask and judge what is missing. Returns why the rest has to wait for another day; None when nothing is left to
        ask, or the process was told to stop. Raises StageError."""
        model, entries = self._model, self._model.journal.entries
        await self._take_over()
        missing = iter([key for key in self._keys if key not in entries])
        unjudged = [key for key in self._keys if key in entries and entries[key].verdict is None]
        self._progressed()
        queue: asyncio.Queue[Key] = asyncio.Queue(_WAITING_VERDICTS)
        client = Teacher(
            model.endpoint,
            self._generate,
            api_key=model.api_key,
            backoff=model.backoff,
            pacer=model.pacer,
            role=model.role,
            answered=model.journal.successes,
            remaining=lambda: self.wanted - self.recorded,
        )
        async with client, asyncio.TaskGroup() as background:
            judges = [background.create_task(self._judge_forever(queue)) for _ in range(_JUDGES)]
            async with asyncio.TaskGroup() as askers:
                askers.create_task(self._judge_again(unjudged, queue))
                for _ in range(min(model.endpoint.max_concurrency, self.wanted - self.recorded)):
                    askers.create_task(self._ask(client, missing, queue))
            await model.pacer.close()
            await queue.join()
            for task in judges:
                task.cancel()
        if not model.pacer.exhausted:
            return None
        return model.pacer.postponed(client.who(), self.wanted - self.recorded)

    async def _take_over(self) -> None:
        """Begin with what other curations have been answered."""
        model, generate = self._model, self._generate
        missing = [key for key in self._keys if key not in model.journal.entries]
        requests = {key: request.identity(model.endpoint, generate, self._text(key)) for key in missing}

        def took(answers: int) -> None:
            self.recorded += answers
            self._progressed()

        asking = request.identity(model.endpoint, generate)
        await recorded.take_over(
            model.journal, model.output, asking, requests, judging=self._judging, stopping=model.stopping, took=took
        )
        self._count()

    async def _ask(self, client: Teacher, missing: Iterator[Key], queue: asyncio.Queue[Key]) -> None:
        for key in missing:
            if self._model.stopping.is_set():
                return
            try:
                answer = await client.ask(*key, self._text(key))
            except Paused:
                return  # those on their way are waited for and recorded
            # On disk first; only then does anything count it, and only then is the next question asked.
            await self._model.journal.append(answer)
            self.recorded += 1
            self._progressed()
            await queue.put(key)

    async def _judge_again(self, keys: list[Key], queue: asyncio.Queue[Key]) -> None:
        for key in keys:
            await queue.put(key)

    async def _judge_forever(self, queue: asyncio.Queue[Key]) -> None:
        while True:
            key = await queue.get()
            reason, detail = await self._judge(self._model.journal.read(key))
            await self._model.journal.judge(key, reason, detail, self._judging(key))
            self.tally[reason] += 1
            self._progressed()
            queue.task_done()
