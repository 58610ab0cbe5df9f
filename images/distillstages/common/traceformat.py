"""How a trace (thinking) and the visible answer (response) become one completion text, and back.

`render` yields what follows the chat template's generation prompt, before the end of the turn. `split` is its inverse
for every pair that does not itself contain the format's delimiters, and is lenient with what a model really writes.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

TraceFormat = Literal["Think", "SkyT1", "S1"]
TRACE_FORMATS: Final[tuple[str, ...]] = get_args(TraceFormat)


class Trace(NamedTuple):
    """A model's thinking (may be "") and the visible response."""

    thinking: str
    response: str


class Delimiters(NamedTuple):
    """The literal text around the parts: open + thinking + middle + response + close."""

    open: str
    middle: str
    close: str


DELIMITERS: Final[dict[str, Delimiters]] = {
    "Think": Delimiters("<think>\n", "\n</think>\n\n", ""),
    "SkyT1": Delimiters(
        "<|begin_of_thought|>\n\n",
        "\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n",
        "\n\n<|end_of_solution|>",
    ),
    # s1's delimiters for Qwen: a turn marker reused inside the assistant's turn.
    "S1": Delimiters("<|im_start|>think\n", "\n<|im_start|>answer\n", ""),
}

# The bare markers, for text whose white space is not exactly ours.
_MARKERS: Final[dict[str, Delimiters]] = {
    "Think": Delimiters("<think>", "</think>", ""),
    "SkyT1": Delimiters("<|begin_of_thought|>", "<|end_of_thought|>", "<|end_of_solution|>"),
    "S1": Delimiters("<|im_start|>think", "<|im_start|>answer", ""),
}

# Text that would end or open a turn or a thought in some trace format: a trace that holds it cannot be told apart from
# its own frame, so it is not taught.
_FRAME_MARKERS: Final = (
    "<think>",
    "</think>",
    "<|begin_of_thought|>",
    "<|end_of_thought|>",
    "<|begin_of_solution|>",
    "<|end_of_solution|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
)

# In the style of STILL-2, in our own words.
_SKY_T1_SYSTEM_PROMPT: Final = (
    "You answer questions by careful, unhurried reasoning before you commit to a result. Work in two parts. "
    "In the first part, Thought, explore the question at length: analyse what is asked, recall what is relevant, try "
    "ideas, check each step, go back and revise when something does not hold. Write it between the markers "
    "<|begin_of_thought|> and <|end_of_thought|>, with paragraphs separated by blank lines. In the second part, "
    "Solution, give the final, precise and complete answer with the steps needed to follow it, drawn from what the "
    "first part found to be right. Write it between the markers <|begin_of_solution|> and <|end_of_solution|>. "
    "Now answer the following question in this form:"
)


def delimiters(trace_format: str) -> Delimiters:
    """The delimiters of a format. Raises ValueError naming the format and the choices."""
    try:
        return DELIMITERS[trace_format]
    except KeyError:
        choices = ", ".join(TRACE_FORMATS)
        raise ValueError(f"trace format {trace_format!r} is unknown, choose one of {choices}") from None


def render(trace_format: str, thinking: str, response: str) -> str:
    """The completion text. An empty thinking keeps its (empty) delimiters: a student is trained on one shape only."""
    d = delimiters(trace_format)
    return f"{d.open}{thinking}{d.middle}{response}{d.close}"


def split(trace_format: str, text: str) -> Trace:
    """The parts of a completion, exact for rendered text. For a model's own text: white space around markers is
    ignored; a missing opening marker is accepted (many chat templates put it into the prompt); text without any
    marker is a response without thinking; a thinking that never ends has the response ""."""
    d = delimiters(trace_format)
    if text.startswith(d.open) and text.endswith(d.close):
        thinking, middle, response = text[len(d.open) : len(text) - len(d.close)].partition(d.middle)
        if middle:
            return Trace(thinking, response)
    return _split_lenient(trace_format, text)


def split_any(text: str) -> Trace:
    """`split` by the format whose markers the text holds; stripped."""
    if "<|begin_of_thought|>" in text:
        trace = split("SkyT1", text)
    elif text.lstrip().startswith(_MARKERS["S1"].open):
        trace = split("S1", text)
    else:
        trace = split("Think", text)
    return Trace(trace.thinking.strip(), trace.response.strip())


def split_between(opening: str, closing: str, text: str) -> Trace:
    """The parts of a text whose thinking stands between two markers, stripped; as lenient as `split`."""
    before, end_marker, after = text.partition(closing)
    lead, open_marker, inside = before.partition(opening)
    if open_marker and not lead.strip():
        before = inside
    elif open_marker and not end_marker:
        # An opening marker in mid-text without an end: whatever came first was visible.
        return Trace(inside.strip(), lead.strip())
    if not end_marker:
        return Trace(before.strip(), "") if open_marker else Trace("", text.strip())
    return Trace(before.strip(), after.strip())


def marker_in(trace: Trace, *more: str) -> str | None:
    """A marker of some trace format, or of a turn, or one of `more`, that a trace holds; None without one."""
    return next((m for m in (*_FRAME_MARKERS, *more) if m in trace.thinking or m in trace.response), None)


def _split_lenient(trace_format: str, text: str) -> Trace:
    markers = _MARKERS[trace_format]
    trace = split_between(markers.open, markers.middle, text)
    return Trace(trace.thinking, _solution(trace_format, trace.response))


def _solution(trace_format: str, text: str) -> str:
    """The visible answer without SkyT1's solution markers."""
    text = text.strip()
    if trace_format == "SkyT1":
        text = text.removeprefix("<|begin_of_solution|>").removesuffix("<|end_of_solution|>").strip()
    return text


def default_system_prompt(trace_format: str) -> str | None:
    """The system prompt that belongs to a format, or None where the tokenizer's chat template decides."""
    delimiters(trace_format)
    return _SKY_T1_SYSTEM_PROMPT if trace_format == "SkyT1" else None
