"""Plain Python values as JSON lines: what passes between a submission, its tests and the judge. No pickles.

Numbers, strings, None and lists stand for themselves; the rest is an object of one tag: {"t": [1, 2]} is a tuple,
{"s": …} a set, {"z": …} a frozenset, {"d": [[key, value], …]} a dict, {"b": "00ff"} bytes, {"i": "0x…"} an int of more
than 64 bits, {"f": "nan"} a float that JSON has no word for, {"c": [1.0, 2.0]} a complex number.

Types are exact: an object of a class of its own (with an __eq__ that says yes to everything) is not a value. What is
read back consists of Python's own types only.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

MAX_DEPTH: Final = 100


def dumps(value: object) -> bytes:
    """One line. ValueError: the value is not plain, or nested more than 100 deep."""
    return json.dumps(encode(value), separators=(",", ":")).encode() + b"\n"


def loads(line: bytes) -> Any:
    """The value of a line. ValueError for anything that `dumps` does not write."""
    try:
        return decode(json.loads(line))
    except (RecursionError, TypeError, LookupError, ArithmeticError) as error:
        raise ValueError(f"not a value: {type(error).__name__}") from None


def encode(value: object, depth: int = 0) -> Any:
    """A value as what JSON can hold."""
    if depth > MAX_DEPTH:
        raise ValueError(f"a value nested more than {MAX_DEPTH} deep")
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if isinstance(value, int) and kind is int:
        return value if -(1 << 63) <= value < 1 << 63 else {"i": hex(value)}
    if isinstance(value, float) and kind is float:
        return value if math.isfinite(value) else {"f": repr(value)}
    if isinstance(value, list) and kind is list:
        return [encode(item, depth + 1) for item in value]
    if isinstance(value, dict) and kind is dict:
        return {"d": [[encode(key, depth + 1), encode(item, depth + 1)] for key, item in value.items()]}
    for tag, sequence in (("t", tuple), ("s", set), ("z", frozenset)):
        if kind is sequence:
            return {tag: [encode(item, depth + 1) for item in value]}  # type: ignore[attr-defined]
    if isinstance(value, bytes) and kind is bytes:
        return {"b": value.hex()}
    if isinstance(value, complex) and kind is complex:
        return {"c": [encode(value.real), encode(value.imag)]}
    raise ValueError(f"a {kind.__name__[:80]} is not a plain value")


def decode(item: Any, depth: int = 0) -> Any:
    """What `encode` made, back again. ValueError, TypeError for anything else."""
    if depth > MAX_DEPTH:
        raise ValueError(f"a value nested more than {MAX_DEPTH} deep")
    if isinstance(item, list):
        return [decode(part, depth + 1) for part in item]
    if not isinstance(item, dict):
        return item
    if len(item) != 1:
        raise ValueError("an object of more than one tag")
    ((tag, inside),) = item.items()
    if tag == "i":
        return int(inside, 16)
    if tag == "f":
        return float(inside)
    if tag == "b":
        return bytes.fromhex(inside)
    parts = [decode(part, depth + 1) for part in inside]
    if tag == "d":
        return {key: value for key, value in parts}  # noqa: C416 (each must be a pair)
    if tag == "c":
        return complex(parts[0], parts[1])
    makers = {"t": tuple, "s": set, "z": frozenset}
    if tag not in makers:
        raise ValueError(f"the tag {tag!r} is unknown")
    return makers[tag](parts)
