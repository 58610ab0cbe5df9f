"""Text out of the columns of a row, and what is said of a column that holds none."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from distillstages.common import reasons
from distillstages.common.exit import DataFault


def text_of(row: Mapping[str, Any], field: str, where: str, role: str, expected: str) -> str:
    """The text of a column, stripped, never empty; numbers are taken as text. `where` names file and row, `role` the
    entry of `fields` that maps it. Raises DataFault: FieldMissing, RowBroken."""
    return as_text(value_of(row, field, where, role, expected), f"{where}: field {field!r}", expected)


def value_of(row: Mapping[str, Any], field: str, where: str, role: str, expected: str) -> Any:
    """What a column holds. Raises DataFault FieldMissing, which names the columns that are there."""
    if field not in row:
        raise DataFault(
            f"{where}: no field {field!r} for {expected}; fields found: {columns(row)}. Map it with fields.{role}",
            reason=reasons.FIELD_MISSING,
        )
    return row[field]


def missing(row: Mapping[str, Any], where: str, fields: Iterable[str], *, least: int = 2) -> None:
    """All columns that are missing, in one sentence, where it is `least` or more. Raises DataFault FieldMissing."""
    absent = [name for name in dict.fromkeys(fields) if name not in row]
    if len(absent) >= least:
        some = "fields" if len(absent) > 1 else "field"
        raise DataFault(
            f"{where}: no {some} {', '.join(map(repr, absent))}; fields found: {columns(row)}. Map them with fields",
            reason=reasons.FIELD_MISSING,
        )


def as_text(value: object, what: str, expected: str) -> str:
    """A text or number as stripped text, never empty. `what` begins the message. Raises DataFault: FieldMissing for
    nothing, RowBroken for anything else."""
    if is_nothing(value):
        raise DataFault(f"{what} holds nothing (null), expected text or a number", reason=reasons.FIELD_MISSING)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise DataFault(
            f"{what} holds {type(value).__name__} {brief(value)}, expected text or a number", reason=reasons.ROW_BROKEN
        )
    text = clean(str(value))
    if not text:
        raise DataFault(f"{what} is empty, expected {expected}", reason=reasons.FIELD_MISSING)
    return text


def is_nothing(value: object) -> bool:
    """Null, or NaN, which tables hold in its place."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def nested(value: Any) -> Any:
    """A list or object that a cell of text (CSV) holds as JSON, else the value itself."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def clean(text: str) -> str:
    """Stripped, and without lone surrogates, which cannot be stored."""
    return text.encode("utf-8", "replace").decode().strip()


def columns(row: Mapping[str, Any]) -> str:
    """The names of a row's columns for a message, 20 at most."""
    return clean(", ".join(sorted(map(str, row))[:20])) or "none"


def brief(value: object) -> str:
    """A value for a message, 60 characters at most."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
