"""The layouts of rows that are found in the wild, each read to a question and its reference answer.

| layout         | question                                   | reference                                   |
| -------------- | ------------------------------------------ | ------------------------------------------- |
| Columns        | column `question`                          | column `answer`                             |
| ShareGPT       | first human turn of column `conversations` | the reply to it, or a column that is mapped |
| Messages       | first user turn of column `messages`       | the reply to it, or a column that is mapped |
| Alpaca         | columns `instruction` and `input`          | column `output`                             |
| MultipleChoice | column `question`, column(s) `choices`     | column `answer`, as a letter                |
| CodeTests      | column `question`, and `starter_code`      | tests in column `input_output`              |
| HumanEval      | column `prompt`                            | tests in columns `test` and `entry_point`   |

The names of the columns are the layouts' own; each may be mapped to another. Of rows that need no answer only the
question is read, of multiple choice without the choices. Whatever a row holds, nothing but
DataFault is raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from distillstages.common import choicerows, coderows, reasons, traceformat
from distillstages.common.answers import reference_of
from distillstages.common.blocks import Fields
from distillstages.common.codetests import UnitTests, Unusable
from distillstages.common.exit import DataFault
from distillstages.common.rowtext import as_text, brief, is_nothing, nested, text_of, value_of

_QUESTION: Final = {
    "ShareGPT": "conversations",
    "Messages": "messages",
    "Alpaca": "instruction",
    "HumanEval": "prompt",
}
_ANSWER: Final = {"Alpaca": "output", "ShareGPT": "", "Messages": ""}
_KEYS: Final = {"ShareGPT": ("from", "value"), "Messages": ("role", "content")}
_ROLES: Final = {
    **dict.fromkeys(("system",), "system"),
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "model", "chatgpt"), "assistant"),
}


class Parts(NamedTuple):
    """A row's question, its reference answer, how many choices it offers (0: it is no multiple choice), the tests that
    judge it instead of the reference, and the end of the question that is our instruction."""

    question: str
    reference: str
    choices: int = 0
    tests: UnitTests | Unusable | None = None
    instruction: str = ""


class Turn(NamedTuple):
    """One turn of a conversation; `role`: system, user or assistant. `text` may be ""."""

    role: str
    text: str


def columns(fields: Fields) -> tuple[str, ...]:
    """The names of the columns that every row must have."""
    if fields.layout in coderows.LAYOUTS and fields.answered:
        return tuple(name for name in (question_column(fields), *coderows.columns(fields), fields.id) if name)
    needed = [question_column(fields), fields.input, fields.id]
    if not fields.answered:
        return tuple(name for name in needed if name)
    needed.insert(1, answer_column(fields))
    if fields.layout == "MultipleChoice":
        needed += choicerows.columns(fields)
    return tuple(name for name in needed if name)


def question_column(fields: Fields) -> str:
    """The column of the question, or of the conversation."""
    return fields.question or _QUESTION.get(fields.layout, "question")


def answer_column(fields: Fields) -> str:
    """The column of the reference answer, "" where it is the reply in the conversation."""
    return fields.answer or _ANSWER.get(fields.layout, "answer")


def parts_of(fields: Fields, row: Mapping[str, Any], where: str) -> Parts:
    """Question and reference of a row, the latter "" where rows need none; `where` names file and row in messages.
    Raises DataFault: FieldMissing, RowBroken."""
    column = question_column(fields)
    if fields.layout == "MultipleChoice" and fields.answered:
        question = text_of(row, column, where, "question", "a question")
        asked, letter, number = choicerows.read(fields, question, answer_column(fields), row, where)
        return Parts(asked, letter, number, instruction=f"\n\n{choicerows.INSTRUCTION}")
    if fields.layout in coderows.LAYOUTS and fields.answered:
        found = coderows.read(fields, text_of(row, column, where, "question", "a question"), row, where)
        return Parts(found.question, found.reference, tests=found.tests, instruction=found.instruction)
    if fields.layout in _KEYS:
        value = value_of(row, column, where, "question", "a conversation")
        conversation = turns(fields.layout, value, f"{where}: field {column!r}")
        with_reply = fields.answered and not fields.answer
        question, reply = _first(conversation, f"{where}: field {column!r}", with_reply=with_reply)
    else:
        question, reply = text_of(row, column, where, "question", "a question"), ""
        if fields.layout == "Alpaca":
            question = _with_input(question, fields, row, where)
    if not fields.answered:
        return Parts(question, "")
    if fields.answer or not reply:
        answer = answer_column(fields)
        reply = text_of(row, answer, where, "answer", "a reference answer")
        what = f"{where}: field {answer!r}"
    else:
        what = f"{where}: the reply in field {column!r}"
    reference = reference_of(reply)
    if not reference:
        raise DataFault(f"{what} holds no answer after ####, expected a reference answer", reason=reasons.FIELD_MISSING)
    return Parts(question, reference)


def turns(layout: str, value: Any, what: str) -> list[Turn]:
    """The turns of a conversation in the layout ShareGPT or Messages. `what` names the field in messages.

    Raises DataFault RowBroken, which says what the turns look like and what was expected."""
    value = nested(value)
    role_key, text_key = _KEYS[layout]
    form = f"a list of {{{role_key}, {text_key}}} (layout {layout})"
    if not isinstance(value, list):
        raise DataFault(f"{what} holds {brief(value)}, expected {form}", reason=reasons.ROW_BROKEN)
    found = []
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, Mapping) or role_key not in turn or text_key not in turn:
            raise DataFault(f"{what} turn {number}: found {_form(turn)}, expected {form}", reason=reasons.ROW_BROKEN)
        said = turn[role_key]
        role = _ROLES.get(said.lower()) if isinstance(said, str) else None
        if role is None:
            raise DataFault(
                f"{what} turn {number}: {role_key} is {brief(said)}, expected system, human (or user) or gpt (or "
                "assistant)",
                reason=reasons.ROW_BROKEN,
            )
        found.append(Turn(role, _content(turn[text_key], f"{what} turn {number}: {text_key}")))
    return found


def _first(conversation: list[Turn], what: str, *, with_reply: bool) -> tuple[str, str]:
    """The first question and the visible part of the reply to it ("" where it is not wanted)."""
    users = [number for number, turn in enumerate(conversation) if turn.role == "user"]
    if not users:
        raise DataFault(f"{what} has no turn of the user, expected a question", reason=reasons.FIELD_MISSING)
    question = as_text(conversation[users[0]].text, f"{what} turn {users[0] + 1}", "a question")
    if not with_reply:
        return question, ""
    after = conversation[users[0] + 1 : users[0] + 2]
    if not after or after[0].role != "assistant":
        raise DataFault(
            f"{what}: no reply follows the first question, expected one with the reference answer; map a column that "
            "holds it with fields.answer",
            reason=reasons.FIELD_MISSING,
        )
    visible = traceformat.split_any(after[0].text).response
    return question, as_text(visible, f"{what} turn {users[0] + 2}", "a reference answer")


def _with_input(instruction: str, fields: Fields, row: Mapping[str, Any], where: str) -> str:
    """Alpaca's instruction, and its input below it where there is one."""
    column = fields.input or "input"
    if column not in row and fields.input is None:
        return instruction
    value = value_of(row, column, where, "input", "an input")
    if is_nothing(value) or (isinstance(value, str) and not value.strip()):
        return instruction
    return f"{instruction}\n\n{as_text(value, f'{where}: field {column!r}', 'an input')}"


def _content(value: Any, what: str) -> str:
    """The text of a turn: text, or a list of parts of text."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list) and all(isinstance(p, Mapping) and isinstance(p.get("text"), str) for p in value):
        return "".join(p["text"] for p in value).encode("utf-8", "replace").decode()
    raise DataFault(f"{what} holds {brief(value)}, expected text", reason=reasons.ROW_BROKEN)


def _form(turn: Any) -> str:
    return f"the keys {', '.join(sorted(map(str, turn))[:8])}" if isinstance(turn, Mapping) and turn else brief(turn)
