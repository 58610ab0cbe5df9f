"""The answer in the termination message, in a form that fits its 4,096 bytes for any number of inputs.

Entries of sources, benchmarks and what is compared with stand in the order of the configuration. Their form, the first
that fits:
{"name", "revision", "rows"}, else [revision, rows], else revision alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from distillstages.common.termination import MAX_BYTES, Termination

Entry = Mapping[str, Any]

_FORMS: Final[tuple[Callable[[Entry], Any], ...]] = (
    lambda entry: dict(entry),
    lambda entry: [entry["revision"], entry["rows"]],
    lambda entry: entry["revision"],
)


def numbers(student: Mapping[str, Any], inputs: Mapping[str, Sequence[Entry]], artifact: str) -> dict[str, Any]:
    """The `numbers` of the message; `inputs` are the entries by what they are (sources, benchmarks, against), and
    `artifact` is the URI that stands beside them."""
    for form in _FORMS:
        resolved = {
            "student": dict(student),
            **{part: [form(entry) for entry in entries] for part, entries in inputs.items()},
        }
        found = {"resolved": resolved}
        if len(Termination.succeeded(artifact, found).dump()) <= MAX_BYTES:
            break
    return found
