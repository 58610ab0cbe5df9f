"""Rows that a source leaves out by the text of a column, before they are read as questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from distillstages.common import reasons
from distillstages.common.blocks import RowFilter
from distillstages.common.exit import DataFault
from distillstages.common.rowtext import columns

Place = tuple[str, int, Mapping[str, Any]]
"""File, number of the row in it from 1, the row."""


def wanted(
    filters: Sequence[RowFilter], rows: Iterable[Place], left_out: Counter[str] | None = None
) -> Iterator[Place]:
    """The rows that pass every filter, in their order; the others are counted in `left_out` by the filter's column.

    A row without a filter's column holds "" there, but the first row must have all of them: else a column that is
    misspelt would leave out everything, or nothing. Raises DataFault FieldMissing."""
    first = True
    for where, number, row in rows:
        if first:
            _columns_there(filters, f"{where} row {number}", row)
            first = False
        refusing = next((each for each in filters if not _passes(each, row)), None)
        if refusing is None:
            yield where, number, row
        elif left_out is not None:
            left_out[refusing.column] += 1


def _columns_there(filters: Sequence[RowFilter], place: str, row: Mapping[str, Any]) -> None:
    for each in filters:
        if each.column not in row:
            raise DataFault(
                f"{place}: no field {each.column!r}, which a filter of the source looks at; fields found: "
                f"{columns(row)}. Correct filters[].column",
                reason=reasons.FIELD_MISSING,
            )


def _passes(each: RowFilter, row: Mapping[str, Any]) -> bool:
    value = row.get(each.column)
    text = "" if value is None else str(value)
    if each.one_of is not None:
        return text in each.one_of
    if each.contains is not None:
        return all(part in text for part in each.contains)
    return not any(part in text for part in each.lacks or ())
