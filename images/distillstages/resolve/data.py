"""Sources, a published dataset and benchmarks: pinned, and their first rows held against the mapping of fields."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any, Final

from distillstages.common import identity, layouts, rowfilter, rowtext, sources, tracerows
from distillstages.common.blocks import DatasetToResolve, InputToResolve
from distillstages.common.codetests import Unusable
from distillstages.common.exit import DataFault, StageError
from distillstages.resolve.pins import pin

Input = InputToResolve | DatasetToResolve
_FIRST_ROWS: Final = 1000
_LOOKED_AT: Final = 50_000
# So much is read to its end: every row is checked, and counted.
_WHOLE_BYTES: Final = 64 << 20


def resolve(given: Input, *, every_row: bool = False) -> dict[str, Any]:
    """{"name", "revision", "rows"}; `rows` as the stage will use them (after `take`, before shares are drawn), None
    where counting would mean reading it all. `every_row`: one with tests that cannot be used is an error, for an
    evaluation leaves out none. Raises DataFault (SourceNotFound, SourceUnreadable, SourceEmpty,
    RowBroken, FieldMissing, InputChanged), ConfigFault, Temporary; the sentence names the source and the row."""
    try:
        if given.uri.startswith("hf://"):
            revision = pin(given.uri, given.revision, given.pinned)
            return {"name": given.name, "revision": revision, "rows": _check(given, revision, every_row)}
        filesystem, paths = sources.files(given)
        for expected in (given.pinned, given.revision):
            identity.check(f"source {given.name!r}", given.uri, expected, filesystem, paths)
        # The rows are checked before the contents are hashed: what is wrong with them is known sooner.
        rows = _check(given, None, every_row)
        revision = given.pinned or given.revision or identity.of_files(filesystem, paths)
        return {"name": given.name, "revision": revision, "rows": rows}
    except StageError as error:
        if repr(given.name) not in error.message:
            error.message = f"source {given.name!r}: {error.message}"
        raise


def _check(given: Input, revision: str | None, every_row: bool) -> int | None:
    """Hold the first rows against the mapping; the number of rows where it is known."""
    source = given.model_copy(update={"revision": revision})
    limit = None if _is_small(source) else _FIRST_ROWS
    # Of rows that are drawn at random any may be used.
    first = None if isinstance(source, InputToResolve) and source.pick == "Random" else source.take
    number = usable = 0
    refused: DataFault | None = None
    filters = source.filters if isinstance(source, InputToResolve) else []
    left_out: Counter[str] = Counter()
    looked_at = itertools.islice(sources.rows(source), _LOOKED_AT if limit and filters else None)
    wanted = itertools.islice(rowfilter.wanted(filters, looked_at, left_out), first)
    for where, row_number, row in itertools.islice(wanted, limit):
        place = f"{where} row {row_number}"
        number += 1
        if isinstance(source, InputToResolve):
            if number == 1:
                rowtext.missing(row, place, layouts.columns(source.fields))
            tests = sources.question_of(source, place, row).tests
            if isinstance(tests, Unusable):  # curation leaves it out and counts it
                refused = refused or DataFault(f"{place}: {tests.detail}", reason=tests.reason)
                if every_row:
                    raise refused
            else:
                usable += 1
            continue
        if number == 1:
            rowtext.missing(row, place, tracerows.columns(source.fields), least=1)
        try:
            tracerows.read(source.fields, row, place)
            usable += 1
        except DataFault as error:  # curation leaves it out and counts it; only a dataset of such rows is refused
            refused = refused or error
    if number + left_out.total() >= _LOOKED_AT and filters and limit is not None:
        return None  # how many pass is not known, perhaps none among so many
    if number == 0:
        raise sources.no_rows(source)
    if not usable and refused is not None:
        raise DataFault(f"none of the first {number} rows can be used; {refused.message}", reason=refused.reason)
    if limit is None or number < limit or number == first:
        return min(number, source.take or number)
    total = _parquet_rows(source) if not filters else None
    return min(total, source.take or total) if total is not None else None


def _is_small(source: Input) -> bool:
    """Whether all of it may be read: files of ours, not of the hub, and not too much."""
    if source.uri.startswith("hf://"):
        return False
    filesystem, paths = sources.files(source)
    return sum(int(filesystem.info(path)["size"]) for path in paths) <= _WHOLE_BYTES


def _parquet_rows(source: Input) -> int | None:
    """Rows by the files' own footers, None where there are other files, or a repository whose layout decides."""
    import pyarrow.parquet

    if sources.is_hub_repository(source.uri):
        return None
    filesystem, paths = sources.files(source)
    if not all(path.endswith(".parquet") for path in paths):
        return None
    rows = 0
    for path in paths:
        try:
            with filesystem.open(path, "rb") as file:
                rows += pyarrow.parquet.ParquetFile(file).metadata.num_rows
        except Exception as error:
            raise sources.unreadable(filesystem.unstrip_protocol(path), error) from error
    return rows
