"""Who judges an answer: the sandbox where its question has tests, the comparison with the reference elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from distillstages.common import blocks, codeblock, reasons
from distillstages.common.codetests import UnitTests
from distillstages.common.exit import ConfigFault
from distillstages.common.sandbox import Sandbox
from distillstages.common.sources import Question
from distillstages.common.verify import Verdict, Verifier

_NO_CODE = Verdict(False, reasons.NO_CODE, "the response has no fenced block of Python code", None)


def require_sandbox(questions: Iterable[Question], sandbox: blocks.Sandbox | None) -> None:
    """Raises ConfigFault SandboxMissing where a question has tests and nobody is there to run them."""
    tested = next((q for q in questions if q.tests is not None), None) if sandbox is None else None
    if tested is not None:
        raise ConfigFault(
            f"the questions of {tested.source!r} are judged by tests, but stage.yaml names no sandbox: set sandbox.url",
            reason=reasons.SANDBOX_MISSING,
        )


class Grader:
    """Judges visible responses; an async context manager. `timeout_seconds`: CPU time of a check, or of a test."""

    def __init__(self, sandbox: blocks.Sandbox | None, *, timeout_seconds: float = 5.0) -> None:
        self._verifier = Verifier(timeout_seconds=timeout_seconds)
        self._sandbox = Sandbox(sandbox, cpu_seconds=timeout_seconds) if sandbox else None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._verifier)
        if self._sandbox is not None:
            await self._stack.enter_async_context(self._sandbox)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def verdict(self, question: Question, response: str, choices: int | None = None) -> Verdict:
        """Judge a response. `choices`: other than the question's own. Raises Fault where a checking process cannot be
        started, Temporary SandboxUnavailable, ConfigFault; never for what the texts hold."""
        if question.tests is None:
            return await self._verifier.verdict(
                question.reference, response, question.choices if choices is None else choices
            )
        # Others have been left out (curation) or refused (evaluation).
        assert isinstance(question.tests, UnitTests)
        assert self._sandbox is not None
        code = codeblock.last_block(response)
        return _NO_CODE if code is None else await self._sandbox.verdict(question.tests, code)
