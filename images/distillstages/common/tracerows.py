"""Rows of published datasets of reasoning traces, each read to a question, its thinking and its response.

| layout   | question                        | thinking and response                                             |
| -------- | ------------------------------- | ----------------------------------------------------------------- |
| Columns  | column `question`               | columns `thinking` and `response`                                 |
| ShareGPT | human turn of `conversations`   | the reply, in any trace format: Sky-T1's, s1's or <think> markers |
| Messages | user turn of `messages`         | as ShareGPT                                                       |

A row that is not exactly that (no thinking, several turns, an end that is missing, markers of a trace format inside the
text) is refused: taught as it is it would teach something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from distillstages.common import reasons, traceformat
from distillstages.common.blocks import TraceFields
from distillstages.common.exit import DataFault
from distillstages.common.layouts import Turn, turns
from distillstages.common.rowtext import as_text, clean, nested, text_of, value_of
from distillstages.common.traceformat import Trace

_CONVERSATION: Final = {"ShareGPT": "conversations", "Messages": "messages"}


class TraceRow(NamedTuple):
    """A row. `reference` and `id` are "" where no column is mapped to them; `has_system`: whether it has a system
    prompt of its own, which is not used."""

    question: str
    trace: Trace
    reference: str
    id: str
    has_system: bool


def columns(fields: TraceFields) -> tuple[str, ...]:
    """The names of the columns that every row must have."""
    own = [_question_column(fields), fields.answer, fields.id]
    if fields.layout == "Columns":
        own += [fields.thinking or "thinking", fields.response or "response"]
    return tuple(name for name in own if name)


def read(fields: TraceFields, row: Mapping[str, Any], where: str) -> TraceRow:
    """A row's question and trace; `where` names file and row in messages. Raises DataFault with the reason for which
    the row is left out: FieldMissing, RowBroken, MultipleTurns, NoThinking, Truncated, Malformed."""
    if fields.layout == "Columns":
        question = text_of(row, _question_column(fields), where, "question", "a question")
        thinking = _thinking(row, fields.thinking or "thinking", where)
        trace = Trace(thinking, text_of(row, fields.response or "response", where, "response", "the response"))
        system = False
    else:
        column = _question_column(fields)
        value = value_of(row, column, where, "question", "a conversation")
        question, text, system = _conversation(turns(fields.layout, value, f"{where}: field {column!r}"), where)
        trace = _split(text, where)
    if not trace.thinking:
        raise DataFault(f"{where}: a response without thinking", reason=reasons.NO_THINKING)
    if not trace.response:
        raise DataFault(f"{where}: no response after the thinking", reason=reasons.MALFORMED)
    marker = traceformat.marker_in(trace)
    if marker:
        raise DataFault(f"{where}: the text holds the marker {marker}", reason=reasons.MALFORMED)
    reference = text_of(row, fields.answer, where, "answer", "a reference answer") if fields.answer else ""
    own = text_of(row, fields.id, where, "id", "an id") if fields.id else ""
    return TraceRow(question, trace, reference, own, system)


def _question_column(fields: TraceFields) -> str:
    return fields.question or _CONVERSATION.get(fields.layout, "question")


def _thinking(row: Mapping[str, Any], column: str, where: str) -> str:
    """The thinking: text, or a list of one (s1K). "" where there is none."""
    value = nested(value_of(row, column, where, "thinking", "the thinking"))
    if isinstance(value, list):
        if len(value) > 1:
            raise DataFault(
                f"{where}: field {column!r} holds {len(value)} trajectories, expected one", reason=reasons.ROW_BROKEN
            )
        value = value[0] if value else ""
    if value is None or (isinstance(value, str) and not value.strip()):
        return ""
    return as_text(value, f"{where}: field {column!r}", "the thinking")


def _conversation(found: list[Turn], where: str) -> tuple[str, str, bool]:
    """(question, reply, whether there is a system prompt) of a conversation of one question and one reply."""
    system = bool(found) and found[0].role == "system"
    roles = [turn.role for turn in found[system:]]
    if roles != ["user", "assistant"]:
        said = ", ".join(roles[:6]) or "no turn"
        reason = reasons.MULTIPLE_TURNS if roles[:2] == ["user", "assistant"] else reasons.ROW_BROKEN
        raise DataFault(f"{where}: the turns are {said}; expected one question and one reply", reason=reason)
    question, reply = found[system].text.strip(), found[system + 1].text.strip()
    if not question or not reply:
        raise DataFault(f"{where}: the {'reply' if question else 'question'} is empty", reason=reasons.FIELD_MISSING)
    return question, clean(reply), system


def _split(text: str, where: str) -> Trace:
    if "<|begin_of_solution|>" in text and not text.endswith("<|end_of_solution|>"):
        raise DataFault(f"{where}: no <|end_of_solution|> at the end: the text is cut off", reason=reasons.TRUNCATED)
    return traceformat.split_any(text)
