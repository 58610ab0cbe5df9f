"""Multiple choice rows: a question, its choices and which of them is right, in the forms that data sets have.

| what    | forms                                                                                                  |
| ------- | ------------------------------------------------------------------------------------------------------ |
| choices | a list of texts; {label: text}; {"text": […], "label": […]} (ARC); a list of {label, text}; JSON of    |
|         | these in a cell of text; several columns                                                               |
| answer  | a label or letter, an index, or a choice's text                                                        |

Out comes one text, the choices under the question as "A. …", and the letter of the right one. Where the column of the
answer is itself one of the columns of choices (GPQA's "Correct Answer") the choices are put in an order that a hash of
them decides, or the right one would always stand in the same place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from distillstages.common import reasons
from distillstages.common.blocks import Fields
from distillstages.common.exit import DataFault
from distillstages.common.letters import LETTERS
from distillstages.common.rowtext import as_text, brief, is_nothing, nested, text_of, value_of

INSTRUCTION: Final = "Give the letter of the right choice in \\boxed{}."
_BARE: Final = re.compile(r"[(\[]?([A-Za-z])[)\].:]?")
_PREFIXED: Final = re.compile(r"[(\[]?([A-Za-z])[)\].:]\s*(.+)", re.DOTALL)
_INDEX: Final = re.compile(r"(\d{1,2})(?:\.0)?")


class Choices(NamedTuple):
    """The choices' texts, and their labels where the data has some."""

    texts: list[str]
    labels: list[str]


def columns(fields: Fields) -> list[str]:
    """The columns of the choices."""
    return list(fields.choices or ["choices"])


def read(fields: Fields, question: str, answer: str, row: Mapping[str, Any], where: str) -> tuple[str, str, int]:
    """(question with its choices, letter of the right one, number of choices). `answer` is the answer's column.

    Raises DataFault: FieldMissing, RowBroken (fewer than 2 or more than 26 choices, an answer that names none of them,
    or that may mean two)."""
    names = columns(fields)
    if len(names) == 1:
        choices = _of_value(row, names[0], where)
    else:
        choices = _of_columns(row, names, where)
    choices = _without_letters(choices)
    if not 2 <= len(choices.texts) <= len(LETTERS):
        raise DataFault(
            f"{where}: {len(choices.texts)} choices in {', '.join(map(repr, names))}, expected 2 to {len(LETTERS)}",
            reason=reasons.ROW_BROKEN,
        )
    if len(names) > 1 and answer in names:
        right = as_text(row[answer], f"{where}: field {answer!r}", "the right choice")
        if choices.texts.count(right) != 1:
            raise DataFault(f"{where}: the choice {brief(right)} stands there twice", reason=reasons.ROW_BROKEN)
        choices = Choices(sorted(choices.texts, key=lambda text: _rank(question, text)), [])
        position = choices.texts.index(right)
    else:
        position = _position(fields.answer_is, choices, _answer(row, answer, where), f"{where}: field {answer!r}")
    lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, choices.texts, strict=False)]
    return "\n".join((question, "", *lines, "", INSTRUCTION)), LETTERS[position], len(lines)


def _of_value(row: Mapping[str, Any], column: str, where: str) -> Choices:
    """The choices that one column holds."""
    value = nested(value_of(row, column, where, "choices", "the choices"))
    what = f"{where}: field {column!r}"
    labels: Sequence[Any] = ()
    if isinstance(value, Mapping) and isinstance(value.get("text"), list):
        labels, value = value.get("label") or (), value["text"]
    elif isinstance(value, Mapping):
        # A table's struct has every row's keys; those of other rows are null.
        labels = [label for label, text in value.items() if text is not None]
        value = [value[label] for label in labels]
    elif isinstance(value, list) and value and all(isinstance(v, Mapping) and "text" in v for v in value):
        labels = [each["label"] for each in value if "label" in each]
        value = [each["text"] for each in value]
    if not isinstance(value, list):
        raise DataFault(
            f"{what} holds {brief(value)}, expected a list of choices, or an object of label and text; name several "
            "columns in fields.choices if each holds one",
            reason=reasons.ROW_BROKEN,
        )
    texts = [as_text(text, f"{what} choice {number}", "a choice") for number, text in enumerate(value, 1)]
    if not isinstance(labels, (list, tuple)) or (labels and len(labels) != len(texts)):
        raise DataFault(
            f"{what} holds {len(texts)} choices and other labels {brief(labels)}", reason=reasons.ROW_BROKEN
        )
    return Choices(texts, [as_text(label, f"{what} label", "a label") for label in labels])


def _of_columns(row: Mapping[str, Any], names: Sequence[str], where: str) -> Choices:
    """One choice a column; the last columns may be empty, as in data where some questions have fewer."""
    values = [value_of(row, name, where, "choices", "a choice") for name in names]
    while values and (is_nothing(values[-1]) or values[-1] == ""):
        values.pop()
    texts = [as_text(value, f"{where}: field {name!r}", "a choice") for name, value in zip(names, values, strict=False)]
    return Choices(texts, [])


def _without_letters(choices: Choices) -> Choices:
    """Choices that carry their letters themselves ("A)21", "B)22") without them."""
    own = [_PREFIXED.fullmatch(text) for text in choices.texts]
    if all(m and m[1].upper() == letter for m, letter in zip(own, LETTERS, strict=False)) and own:
        return Choices([m[2].strip() for m in own if m], choices.labels)
    return choices


def _answer(row: Mapping[str, Any], column: str, where: str) -> str:
    value = nested(value_of(row, column, where, "answer", "the right choice"))
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return text_of({column: value}, column, where, "answer", "the right choice")


def _position(answer_is: str, choices: Choices, answer: str, what: str) -> int:
    """Which choice an answer names. Raises DataFault RowBroken where it is none, or more than one."""
    readings = {
        "Letter": _by_letter(choices, answer),
        "Index": _by_index(choices, answer, 0),
        "IndexFromOne": _by_index(choices, answer, 1),
        "Text": _by_text(choices, answer),
    }
    if answer_is != "Auto":
        found = readings[answer_is]
    elif choices.labels and readings["Letter"]:
        found = readings["Letter"]
    else:
        found = readings["Letter"] | readings["Index"] | readings["Text"]
    if len(found) == 1:
        return found.pop()
    last = LETTERS[len(choices.texts) - 1]
    if found:
        raise DataFault(
            f"{what} holds {brief(answer)}, which may mean {' or '.join(LETTERS[n] for n in sorted(found))} of A to "
            f"{last}; say with fields.answerIs whether it is a letter, an index or the text",
            reason=reasons.ROW_BROKEN,
        )
    raise DataFault(
        f"{what} holds {brief(answer)}, expected one of the choices: its letter (A to {last}), its index (0 to "
        f"{len(choices.texts) - 1}; counted from 1 with fields.answerIs: IndexFromOne) or its text",
        reason=reasons.ROW_BROKEN,
    )


def _by_letter(choices: Choices, answer: str) -> set[int]:
    bare = _BARE.fullmatch(answer)
    name = (bare[1] if bare else answer).casefold()
    if choices.labels:
        return {n for n, label in enumerate(choices.labels) if label.casefold() in (name, answer.casefold())}
    if bare:
        position = LETTERS.find(name.upper())
        return {position} if 0 <= position < len(choices.texts) else set()
    whole = _PREFIXED.fullmatch(answer)  # "B) Paris"
    position = LETTERS.find(whole[1].upper()) if whole else -1
    if whole and 0 <= position < len(choices.texts) and _same(choices.texts[position], whole[2]):
        return {position}
    return set()


def _by_index(choices: Choices, answer: str, first: int) -> set[int]:
    match = _INDEX.fullmatch(answer)
    position = int(match[1]) - first if match else -1
    return {position} if 0 <= position < len(choices.texts) else set()


def _by_text(choices: Choices, answer: str) -> set[int]:
    return {n for n, text in enumerate(choices.texts) if _same(text, answer)}


def _same(one: str, other: str) -> bool:
    return " ".join(one.split()) == " ".join(other.split())


def _rank(question: str, text: str) -> str:
    return hashlib.sha256(f"{question}\0{text}".encode()).hexdigest()
