"""Questions out of JSON Lines, Parquet and CSV: one file, a directory or a glob, on file://, s3:// or hf://.

Rows are streamed. Whatever is wrong ends in a DataFault that names the file, the row (counted from 1; for text files
the line), the field, what was found and what was expected.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import IO, Any, Final, Protocol

from distillstages.common import hub, identity, layouts, reasons, rowfilter
from distillstages.common.blocks import Fields, RowFilter, Source
from distillstages.common.codetests import UnitTests, Unusable
from distillstages.common.exit import DataFault, Temporary
from distillstages.common.rowtext import brief, text_of

SUFFIXES: Final = (".jsonl", ".parquet", ".csv")
_COMPRESSIONS: Final = ("", ".gz", ".zst", ".bz2", ".xz")
_MAX_LINE_BYTES: Final = 64 << 20
_BATCH_ROWS: Final = 256
_MAX_DOMAIN_CHARS: Final = 128

Row = tuple[int, Mapping[str, Any]]


class Located(Protocol):
    """Rows somewhere: what sources, benchmarks and published datasets have in common."""

    @property
    def name(self) -> str: ...
    @property
    def uri(self) -> str: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def split(self) -> str: ...


class SourceLike(Located, Protocol):
    """Rows of questions: what curate's sources and evaluate's benchmarks have in common."""

    @property
    def take(self) -> int | None: ...
    @property
    def fields(self) -> Fields: ...


@dataclass(frozen=True, slots=True)
class Question:
    """One question. `id` is the row's own where a field is mapped to it, else `key`; `key` is a hash of source and
    question, 32 hex digits, stable across runs. `reference` is the reference answer, "" only where the source's fields
    ask for none; `choices`: how many the question offers, the reference being the letter of one (0: it is no multiple
    choice). `tests` judge an answer instead of the reference. `instruction`: the end of the question that a layout has
    added. `domain`: what its row says, "" without such a column."""

    key: str
    id: str
    source: str
    question: str
    reference: str
    choices: int = 0
    tests: UnitTests | Unusable | None = None
    instruction: str = ""
    domain: str = ""

    @property
    def own_words(self) -> str:
        """The question as the data has it: what is compared with other questions, for all of a layout share the
        instruction."""
        return self.question.removesuffix(self.instruction)


def key_of(source: str, question: str) -> str:
    """The stable name of a question within a source."""
    return hashlib.sha256(f"{source}\0{question}".encode("utf-8", "replace")).hexdigest()[:32]


def read_questions(
    source: SourceLike,
    *,
    domain_column: str | None = None,
    domain_required: bool = True,
    left_out: Counter[str] | None = None,
) -> Iterator[Question]:
    """The questions of a source, in its order, the first `take` rows that pass its filters; repeated questions are not
    removed. Rows may be without a domain, but where one is required the first row must have its column. What filters
    leave out is counted in `left_out` by the filter's column.

    Raises DataFault: SourceNotFound, SourceUnreadable, SourceEmpty, RowBroken, FieldMissing. Temporary when the storage
    is away."""
    check_unchanged(source)
    empty = True
    passing = rowfilter.wanted(_filters(source), rows(source), left_out)
    for where, row_number, row in itertools.islice(passing, source.take):
        place = f"{where} row {row_number}"
        if empty and domain_required and domain_column is not None and domain_column not in row:
            raise DataFault(
                f"{place}: no field {domain_column!r}, expected the question's domain (curate.domains.column), or a "
                f"`domain` of source {source.name!r}; the row has {', '.join(sorted(map(repr, row)))[:500]}",
                reason=reasons.FIELD_MISSING,
            )
        empty = False
        question = question_of(source, place, row)
        domain = row.get(domain_column) if domain_column is not None else None
        yield question if domain is None else replace(question, domain=_domain(domain, place, domain_column))
    if empty:
        raise no_rows(source)


def _filters(source: SourceLike) -> list[RowFilter]:
    return source.filters if isinstance(source, Source) else []


def _domain(value: Any, place: str, column: str | None) -> str:
    if not isinstance(value, str | int):
        raise DataFault(
            f"{place}: field {column!r} holds {brief(value)}, expected the question's domain as text",
            reason=reasons.ROW_BROKEN,
        )
    return " ".join(str(value).split())[:_MAX_DOMAIN_CHARS]


def check_unchanged(source: Located) -> None:
    """Files must still be what they were when they were resolved. Raises DataFault InputChanged, ConfigFault."""
    if source.revision is not None and not source.uri.startswith("hf://"):
        identity.check(f"source {source.name!r}", source.uri, source.revision, *files(source))


def no_rows(source: Located) -> DataFault:
    """The error of a source without rows, or without one that passes its filters."""
    passing = " that pass its filters" if isinstance(source, Source) and source.filters else ""
    return DataFault(
        f"source {source.name!r}: {source.uri} has no rows{passing}, expected at least one",
        reason=reasons.SOURCE_EMPTY,
    )


def unique(questions: Iterable[Question]) -> tuple[list[Question], int]:
    """The questions without repetitions (same source, same text; the first stays), and how many were left out."""
    kept: dict[str, Question] = {}
    duplicates = 0
    for question in questions:
        if question.key in kept:
            duplicates += 1
        else:
            kept[question.key] = question
    return list(kept.values()), duplicates


def question_of(source: SourceLike, where: str, row: Mapping[str, Any]) -> Question:
    """The question of a row, by the source's layout and mapping. `where` names file and row in messages.

    Raises DataFault: FieldMissing, RowBroken."""
    parts = layouts.parts_of(source.fields, row, where)
    key = key_of(source.name, parts.question)
    own = text_of(row, source.fields.id, where, "id", "an id") if source.fields.id else key
    return Question(
        key,
        own,
        source.name,
        parts.question,
        parts.reference,
        parts.choices,
        tests=parts.tests,
        instruction=parts.instruction,
    )


def rows(source: Located) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """(file, row number, row) of all files of a source, in the order of their names. Raises DataFault, Temporary."""
    if is_hub_repository(source.uri):
        yield from hub.rows_of_repository(source)
        return
    filesystem, paths = files(source)
    for path in paths:
        where = filesystem.unstrip_protocol(path)
        for number, row in _rows_of_file(filesystem, path, where):
            yield where, number, row


def is_hub_repository(uri: str) -> bool:
    """hf://datasets/owner/name without a path to a file: the layout of the repository decides."""
    return uri.startswith("hf://datasets/") and hub.place(uri).is_whole


def files(source: Located) -> tuple[Any, list[str]]:
    """The file system and the files that a URI names, sorted. Raises DataFault, Temporary."""
    import fsspec

    uri = hub.located(source.uri, source.revision)
    try:
        filesystem, path = fsspec.core.url_to_fs(uri)
        if any(c in path for c in "*?["):
            found = [p for p in filesystem.glob(path) if _format_of(p)]
            if not found:
                raise DataFault(f"source {source.name!r}: no file matches {uri}", reason=reasons.SOURCE_NOT_FOUND)
        elif filesystem.isdir(path):
            found = [p for p in filesystem.find(path) if _format_of(p) and not _is_hidden(p, path)]
            if not found:
                raise DataFault(
                    f"source {source.name!r}: the directory {uri} holds no {', '.join(SUFFIXES)} file",
                    reason=reasons.SOURCE_EMPTY,
                )
        elif filesystem.exists(path):
            if not _format_of(path):
                raise DataFault(
                    f"source {source.name!r}: the format of {uri} is unknown, expected a name that ends in "
                    f"{', '.join(SUFFIXES)}",
                    reason=reasons.SOURCE_UNREADABLE,
                )
            found = [path]
        else:
            raise DataFault(f"source {source.name!r}: there is no {uri}", reason=reasons.SOURCE_NOT_FOUND)
    except (DataFault, Temporary):
        raise
    except Exception as error:
        raise unreadable(uri, error) from error
    return filesystem, sorted(found)


def _is_hidden(path: str, root: str) -> bool:
    return any(part.startswith((".", "_")) for part in path[len(root) :].split("/") if part)


def _format_of(path: str) -> str | None:
    for suffix in SUFFIXES:
        if path.endswith(tuple(suffix + c for c in (_COMPRESSIONS if suffix != ".parquet" else ("",)))):
            return suffix
    return None


def _rows_of_file(filesystem: Any, path: str, where: str) -> Iterator[Row]:
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    kind = _format_of(path)
    assert kind is not None
    try:
        with filesystem.open(path, "rb", **({} if kind == ".parquet" else {"compression": "infer"})) as file:
            # fsspec's remote files know no readline(limit) and no TextIOWrapper; a buffer in front of them does.
            buffered = file if kind == ".parquet" else io.BufferedReader(file)
            yield from readers[kind](buffered, where)
    except (DataFault, Temporary):
        raise
    except Exception as error:
        raise unreadable(where, error) from error


def unreadable(where: str, error: Exception) -> DataFault | Temporary:
    """What an error of the storage or of a decoder means for the user."""
    if isinstance(error, FileNotFoundError):
        return DataFault(f"there is no {where}", reason=reasons.SOURCE_NOT_FOUND)
    if isinstance(error, (ConnectionError, TimeoutError)) or "connect" in type(error).__name__.lower():
        return Temporary(f"{where}: the storage cannot be reached ({type(error).__name__}: {_brief_text(error)})")
    if isinstance(error, PermissionError):
        return DataFault(f"{where}: reading is not permitted ({_brief_text(error)})", reason=reasons.SOURCE_UNREADABLE)
    return DataFault(
        f"{where}: cannot be read ({type(error).__name__}: {_brief_text(error)})", reason=reasons.SOURCE_UNREADABLE
    )


def _brief_text(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _jsonl(file: IO[bytes], where: str) -> Iterator[Row]:
    for number in itertools.count(1):
        line = file.readline(_MAX_LINE_BYTES + 1)
        if not line:
            return
        if len(line) > _MAX_LINE_BYTES:
            raise DataFault(
                f"{where} row {number}: longer than 64 MiB, expected one JSON object", reason=reasons.ROW_BROKEN
            )
        if not line.strip():
            continue
        try:
            row = json.loads(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
        except (ValueError, RecursionError) as error:
            raise DataFault(
                f"{where} row {number}: not JSON ({_json_problem(error)}), expected one JSON object a line, found "
                f"{brief(line[:80].decode('utf-8', 'replace'))}",
                reason=reasons.ROW_BROKEN,
            ) from None
        if not isinstance(row, dict):
            raise DataFault(
                f"{where} row {number}: found {type(row).__name__} {brief(row)}, expected a JSON object",
                reason=reasons.ROW_BROKEN,
            )
        yield number, row


def _json_problem(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    return type(error).__name__


def _csv(file: IO[bytes], where: str) -> Iterator[Row]:
    csv.field_size_limit(_MAX_LINE_BYTES)
    reader = csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            return
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise DataFault(
                    f"{where} row {reader.line_num}: {len(cells)} cells, expected {len(header)} ({', '.join(header)})",
                    reason=reasons.ROW_BROKEN,
                )
            yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataFault(f"{where} row {reader.line_num}: not CSV ({error})", reason=reasons.ROW_BROKEN) from None
    except UnicodeDecodeError as error:
        raise DataFault(
            f"{where} row {reader.line_num + 1}: not UTF-8 ({error.reason}), expected UTF-8 text",
            reason=reasons.ROW_BROKEN,
        ) from None


def _parquet(file: IO[bytes], where: str) -> Iterator[Row]:
    import pyarrow.parquet as pq

    number = 0
    for batch in pq.ParquetFile(file).iter_batches(batch_size=_BATCH_ROWS):
        for row in batch.to_pylist():
            number += 1
            yield number, row
