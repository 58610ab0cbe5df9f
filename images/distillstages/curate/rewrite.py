"""Accepted traces written anew by another model, thought and solution apart, as Sky-T1 did after STILL-2.

The thought is to stay as it is but for its form, the solution to be drawn from it. A rewriting counts only if its final
answer still passes the check that the original has passed.
"""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from distillstages.common import reasons
from distillstages.common.blocks import Generate, Rewrite
from distillstages.common.sources import Question
from distillstages.common.traceformat import Trace
from distillstages.curate.campaign import Verdict
from distillstages.curate.journal import Key

STEP: Final = "rewrite"
PROMPT: Final = """Below are a question and somebody's worked reasoning about it. Set the reasoning down in two parts \
without adding to it, shortening it or judging it.

The first part, Thought, is the reasoning itself: keep its steps, detours, checks and corrections, nearly word for \
word and in their order, in paragraphs separated by blank lines. Write it between <|begin_of_thought|> and \
<|end_of_thought|>.

The second part, Solution, is the final, complete answer with the steps needed to follow it, drawn from the reasoning \
alone. Write it between <|begin_of_solution|> and <|end_of_solution|>. It must give the very answer that the reasoning \
gives, in the same form: an answer in \\boxed{{}} stays in \\boxed{{}}, and code stays a whole fenced block.

Question:
{question}

Reasoning:
{reasoning}"""
COLUMNS: Final = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("id", "source", "question")),
        pa.field("sample", pa.int32(), nullable=False),
        *(pa.field(name, pa.string(), nullable=False) for name in ("thinking", "response")),
        *(pa.field(name, pa.string(), nullable=False) for name in ("newThinking", "newResponse", "reason", "detail")),
    ]
)
"""Of the artifact: each accepted trace as the teacher wrote it, its rewriting, and why that is not taught ("" where it
is)."""
_OTHER_ANSWER: Final = frozenset({reasons.WRONG_ANSWER, reasons.NO_ANSWER, reasons.AMBIGUOUS_ANSWER})


def generate(config: Rewrite) -> Generate:
    """How the model is asked."""
    return Generate(temperature=config.temperature, max_tokens=config.max_tokens)


def key_of(original: Key) -> Key:
    """The key of the rewriting of a trace."""
    return f"{STEP}/{original[0]}", original[1]


def prompt(question: Question, trace: Trace) -> str:
    """What the model is asked about a trace."""
    reasoning = "\n\n".join(part for part in trace if part)
    return PROMPT.format(question=question.question, reasoning=reasoning)


def verdict(trace: Trace, checked: Verdict) -> Verdict:
    """The verdict on a rewriting, from that of the check on it as on any trace. One whose parts cannot be told apart is
    not what was asked for."""
    reason, detail = checked
    if reason is None and not trace.thinking:
        return reasons.REWRITE_UNUSABLE, "the rewriting has no thought part"
    if reason is None:
        return None, detail
    if reason in _OTHER_ANSWER:
        return reasons.REWRITE_CHANGED_ANSWER, f"{reason}: {detail}"
    return reasons.REWRITE_UNUSABLE, f"{reason}: {detail}"


def row(question: Question, sample: int, original: Trace, new: Trace, checked: Verdict) -> dict[str, Any]:
    """A row of the artifact."""
    return {
        "id": question.id,
        "source": question.source,
        "question": question.question,
        "sample": sample,
        "thinking": original.thinking,
        "response": original.response,
        "newThinking": new.thinking,
        "newResponse": new.response,
        "reason": checked[0] or "",
        "detail": checked[1],
    }
