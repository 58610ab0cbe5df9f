"""What is recorded of one answer, and how it reads as a trace."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from distillstages.common import reasons, traceformat
from distillstages.common.blocks import ReasoningDelimiters
from distillstages.common.traceformat import Trace


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the teacher to sample number `sample` of the question `key`, as it came.

    `error` is (reason, detail) when no usable answer was to be had; `requests` counts the requests it took, `request`
    identifies what they said (request.py; "" in journals of versions before)."""

    key: str
    sample: int
    content: str = ""
    reasoning: str = ""
    finish: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    requests: int = 1
    model: str = ""
    error: tuple[str, str] | None = None
    request: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object, which begins with what one looks for first."""
        return {"kind": "answer", "request": self.request, **asdict(self)}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Answer:
        """The inverse of `as_dict`. Raises KeyError, TypeError."""
        fields = {name: document[name] for name in cls.__slots__ if name != "request"}
        fields["request"] = document.get("request", "")
        fields["error"] = tuple(fields["error"]) if fields["error"] else None
        return cls(**fields)


def trace_of(answer: Answer, marks: ReasoningDelimiters | None = None) -> Trace:
    """Thinking and visible response: from the API's own field for reasoning, else from markers in the text: the
    teacher's own `marks`, or those of the trace formats."""
    opening, closing = (marks.open, marks.close) if marks else ("<think>", "</think>")
    if answer.reasoning.strip():
        # Some servers repeat the thinking inside the content.
        repeated = closing in answer.content
        response = traceformat.split_between(opening, closing, answer.content).response if repeated else answer.content
        return Trace(answer.reasoning.strip(), response.strip())
    if marks:
        return traceformat.split_between(opening, closing, answer.content)
    return traceformat.split_any(answer.content)


def fault_of(answer: Answer, trace: Trace, marks: ReasoningDelimiters | None = None) -> tuple[str, str] | None:
    """(reason, detail) for which a trace is rejected before its answer is looked at, or None."""
    if answer.error:
        return answer.error
    if answer.finish == "length":
        return (
            reasons.TRUNCATED,
            f"cut off after {answer.completion_tokens} tokens (finish_reason length); raise maxTokens",
        )
    if answer.finish == "content_filter":
        return reasons.CONTENT_FILTERED, "the teacher's content filter ended the answer"
    if not trace.response:
        return reasons.MALFORMED, "no visible response" + (" after the thinking" if trace.thinking else "")
    marker = traceformat.marker_in(trace, *((marks.open, marks.close) if marks else ()))
    return (reasons.MALFORMED, f"the text holds the marker {marker}") if marker else None


def length_of(answer: Answer) -> int:
    """Tokens of an answer as the teacher counts them; of a teacher that counts none, a quarter of its characters."""
    return answer.completion_tokens or (len(answer.reasoning) + len(answer.content)) // 4
