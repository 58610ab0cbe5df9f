"""The answer in the termination message, in a form that fits its 4,096 bytes for any number of inputs.

Entries of sources, benchmarks and what is compared with stand in the order of the configuration. Their form, the first
that fits:
{"name", "revision", "rows"}, else [revision, rows], else revision alone: of sources last, since training's time is
estimated from their rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from distillstages.common.termination import MAX_BYTES, Termination

Entry = Mapping[str, Any]

Form = Callable[[Entry], Any]


def _short(entry: Entry) -> list[Any]:
    return [entry["revision"], entry["rows"]]


def _shortest(entry: Entry) -> Any:
    return entry["revision"]


_FORMS: Final[tuple[tuple[Form, Form], ...]] = (
    (dict, dict),
    (_short, _short),
    (_short, _shortest),
    (_shortest, _shortest),
)
"""(of sources, of all else)."""


def numbers(student: Mapping[str, Any], inputs: Mapping[str, Sequence[Entry]], artifact: str) -> dict[str, Any]:
    """The `numbers` of the message; `inputs` are the entries by what they are (sources, benchmarks, against), and
    `artifact` is the URI that stands beside them."""
    for of_sources, of_others in _FORMS:
        resolved: dict[str, Any] = {"student": dict(student)}
        for part, entries in inputs.items():
            form = of_sources if part == "sources" else of_others
            resolved[part] = [form(entry) for entry in entries]
        found = {"resolved": resolved}
        if len(Termination.succeeded(artifact, found).dump()) <= MAX_BYTES:
            break
    return found
