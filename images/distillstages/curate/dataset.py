"""The data set on disk: accepted traces, rejected traces beside them, and a sample to read.

Written from the journal in the order of the questions, so the same recorded answers give the same bytes. One row group
is in memory at a time.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from distillstages.common.blocks import Dataset, Source
from distillstages.common.sources import Question
from distillstages.common.traceformat import Trace

COLUMNS: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("thinking", pa.string(), nullable=False),
        pa.field("response", pa.string(), nullable=False),
        pa.field("sample", pa.int32(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
    ]
)
REJECTED_COLUMNS: Final = COLUMNS.append(pa.field("reason", pa.string(), nullable=False)).append(
    pa.field("detail", pa.string(), nullable=False)
)
FILTERED_COLUMNS: Final = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("id", "source", "question", "step", "reason", "detail")]
)
_GROUP_ROWS: Final = 4096
_GROUP_BYTES: Final = 32 << 20
_SAMPLE_CHARS: Final = 4000


class Writer:
    """A Parquet file written row by row; a context manager. Raises OSError."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=["source"])
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def add(self, row: dict[str, Any]) -> None:
        """Append a row."""
        self._rows.append(row)
        self._bytes += sum(len(v) for v in row.values() if isinstance(v, str))
        self.rows += 1
        # Bounded by what the rows hold, not by time: where a group ends must not vary.
        if len(self._rows) >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows, self._bytes = [], 0


def row_of(question: Question, sample: int, trace: Trace, domain: str = "") -> dict[str, Any]:
    """A row of the data set."""
    return {
        "id": question.id,
        "source": question.source,
        "question": question.question,
        "reference": question.reference,
        "thinking": trace.thinking,
        "response": trace.response,
        "sample": sample,
        "domain": domain,
    }


def filtered_row(question: Question, step: str, reason: str, detail: str) -> dict[str, Any]:
    """A row of the questions that the teacher was not asked."""
    return {
        "id": question.id,
        "source": question.source,
        "question": question.question,
        "step": step,
        "reason": reason,
        "detail": detail,
    }


def choose(positions: Sequence[int], count: int, seed: int) -> set[int]:
    """`count` of the positions, the same for the same seed."""
    return set(random.Random(seed).sample(list(positions), min(count, len(positions))))


def revision_line(source: Source | Dataset) -> tuple[str, str]:
    """The line of the summary that says at which revision a source was read, and whether anybody has chosen it."""
    note = " (unchecked: the spec names no commit, so the newest was taken)" if source.unchecked else ""
    return f"revision of {source.name}", (source.revision or "not pinned") + note


def sample_page(title: str, summary: Sequence[tuple[str, str]], rows: Sequence[dict[str, Any]]) -> str:
    """sample.md: a table of numbers, then whole traces, accepted first."""
    lines = [f"# {title}", "", "| what | |", "| --- | --- |"]
    lines += [f"| {cell(name)} | {cell(value)} |" for name, value in summary]
    for row in sorted(rows, key=lambda r: "reason" in r):
        verdict = f"rejected: {row['reason']}" if "reason" in row else "accepted"
        lines += ["", f"## {cell(row['id'])}, sample {row['sample']}: {verdict}", ""]
        if row.get("detail"):
            lines += [cell(row["detail"]), ""]
        for name in ("question", "reference", "thinking", "response"):
            lines += [f"**{name.capitalize()}**", "", *_fenced(row[name]), ""]
    return "\n".join(lines).rstrip() + "\n"


def cell(text: str) -> str:
    """A text for a cell of a Markdown table: one line."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _fenced(text: str) -> list[str]:
    if len(text) > _SAMPLE_CHARS:
        text = text[:_SAMPLE_CHARS] + f"\n… ({len(text) - _SAMPLE_CHARS} more characters)"
    fence = "```"
    while fence in text:
        fence += "`"
    return [f"{fence}text", text, fence]
