"""From curated rows to token sequences with exact labels.

An example is prompt + completion + end of turn. The prompt is what the server renders for the question; the completion
is the trace format's text; loss is taken on completion and end of turn. Text that comes from data never becomes a
special token, even where it spells one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from distillstages.common import reasons, traceformat
from distillstages.common.exit import DataFault
from distillstages.train.student import Conversation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""Label of a position without loss."""


class Piece(NamedTuple):
    """A part of a text: from data (it must stay text) or from a template (its special tokens are meant)."""

    text: str
    is_data: bool


class Example(NamedTuple):
    """One row as tokens. The first `completion_start` of `input_ids` are the prompt."""

    id: str
    input_ids: list[int]
    completion_start: int


@dataclass
class Examples:
    """What is trained on, and what is not and why."""

    rows: list[Example] = field(default_factory=list)
    dropped: int = 0
    truncated: int = 0

    @property
    def longest(self) -> int:
        """Tokens of the longest example, 0 without any."""
        return max((len(row.input_ids) for row in self.rows), default=0)


def encode(tokenizer: PreTrainedTokenizerBase, pieces: Sequence[Piece], protected: Sequence[str]) -> list[int]:
    """Token ids of the joined pieces, as the tokenizer encodes the whole text, except that no `protected` token is
    found where data takes part in spelling it: the text is cut there after the token's first character."""
    text = "".join(piece.text for piece in pieces)
    cuts = [0, *_forgeries(text, pieces, protected), len(text)]
    ids: list[int] = []
    for start, end in itertools.pairwise(cuts):
        if start < end:
            ids += tokenizer.encode(text[start:end], add_special_tokens=False)
    return ids


def _forgeries(text: str, pieces: Sequence[Piece], protected: Sequence[str]) -> list[int]:
    """Where to cut the text: one character into each protected token that overlaps data."""
    meant = [piece.text for piece in pieces if not piece.is_data]
    suspects = [token for token in protected if text.count(token) > sum(each.count(token) for each in meant)]
    if not suspects:
        return []
    spans = _data_spans(pieces)
    cuts = set()
    for token in suspects:
        start = text.find(token)
        while start >= 0:
            if any(start < data_end and data_start < start + len(token) for data_start, data_end in spans):
                cuts.add(start + 1)
            start = text.find(token, start + 1)
    return sorted(cuts)


def encode_row(conversation: Conversation, trace_format: str, row: Mapping[str, Any]) -> Example:
    """One curated row (id, question, thinking, response) as an example. Raises DataFault naming the row."""
    question, thinking, response = (str(row[key] or "") for key in ("question", "thinking", "response"))
    prompt = _prompt_pieces(conversation, question, str(row["id"]))
    marks = traceformat.delimiters(trace_format)
    opening = _without_what_the_prompt_has(marks.open, "".join(piece.text for piece in prompt))
    completion = [
        Piece(opening, False),
        Piece(thinking, True),
        Piece(marks.middle, False),
        Piece(response, True),
        Piece(marks.close, False),
    ]
    protected = conversation.protected(trace_format)
    prompt_ids = encode(conversation.tokenizer, prompt, protected)
    completion_ids = encode(conversation.tokenizer, completion, protected)
    return Example(str(row["id"]), [*prompt_ids, *completion_ids, conversation.end_of_turn], len(prompt_ids))


def encode_rows(
    conversation: Conversation,
    trace_format: str,
    rows: Iterable[Mapping[str, Any]],
    *,
    limit: int,
    on_overlong: Literal["Fail", "Drop", "Truncate"],
) -> Examples:
    """All rows as examples of at most `limit` tokens.

    Fail raises DataFault SequenceTooLong naming the longest rows; Drop leaves a longer row out; Truncate cuts its end
    off (a row whose prompt alone fills the limit is left out). Both are counted. Raises DataFault when nothing is left.
    """
    result, overlong = Examples(), list[Example]()
    for example in (encode_row(conversation, trace_format, row) for row in rows):
        if len(example.input_ids) <= limit:
            result.rows.append(example)
        elif on_overlong == "Fail":
            overlong.append(example)
        elif on_overlong == "Truncate" and example.completion_start < limit:
            result.rows.append(example._replace(input_ids=example.input_ids[:limit]))
            result.truncated += 1
        else:
            result.dropped += 1
    if overlong:
        _refuse(overlong, limit, len(overlong) + len(result.rows))
    if not result.rows:
        raise DataFault(
            f"no example is left to train on: all {result.dropped} are longer than maxSequenceLength {limit}; raise it"
            if result.dropped
            else "the dataset has no rows to train on",
            reason=reasons.SEQUENCE_TOO_LONG if result.dropped else reasons.SOURCE_EMPTY,
        )
    return result


def labels(input_ids: Sequence[int], completion_start: int) -> list[int]:
    """Labels of the same length: the token itself where loss is taken, IGNORED before `completion_start`. The model
    shifts them by one: position i predicts label i + 1."""
    return [IGNORED] * completion_start + list(input_ids[completion_start:])


def _refuse(overlong: list[Example], limit: int, total: int) -> None:
    overlong.sort(key=lambda example: (-len(example.input_ids), example.id))
    named = ", ".join(f"{example.id} ({len(example.input_ids)} tokens)" for example in overlong[:5])
    raise DataFault(
        f"{len(overlong)} of {total} examples are longer than maxSequenceLength {limit}, the longest: {named}. Set "
        f"maxSequenceLength to {len(overlong[0].input_ids)}, or onOverlong to Drop or Truncate",
        reason=reasons.SEQUENCE_TOO_LONG,
    )


def _prompt_pieces(conversation: Conversation, question: str, row: str) -> list[Piece]:
    rendered = conversation.prompt(question)
    content = question if question in rendered else question.strip()  # some templates strip a message
    before, found, after = rendered.rpartition(content)
    if not found or not content:
        raise DataFault(
            f"row {row}: the student's chat template does not render the question {question[:80]!r} as it is",
            reason=reasons.ROW_BROKEN,
        )
    return [Piece(before, False), Piece(content, True), Piece(after, False)]


def _without_what_the_prompt_has(opening: str, prompt: str) -> str:
    """Some templates already open the thinking (QwQ, DeepSeek-R1): the completion must not open it again."""
    for marker in (opening, opening.rstrip()):
        if marker and prompt.endswith(marker):
            return opening[len(marker) :]
    return opening


def _data_spans(pieces: Sequence[Piece]) -> list[tuple[int, int]]:
    spans, position = [], 0
    for piece in pieces:
        if piece.is_data and piece.text:
            spans.append((position, position + len(piece.text)))
        position += len(piece.text)
    return spans
