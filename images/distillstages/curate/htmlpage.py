"""sample.html: some traces to read before GPU money is spent. One file without scripts; all data is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Final

from distillstages.curate.funnel import Funnel

_MOST_CHARACTERS: Final = 20_000
_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .2rem .8rem; border-bottom: 1px solid #ddd }
td.number { text-align: right; font-variant-numeric: tabular-nums }
article { border: 1px solid #ddd; border-radius: 6px; padding: 0 1rem 1rem; margin: 1.5rem 0 }
article.accepted { border-left: 6px solid #2a7d46 } article.rejected { border-left: 6px solid #b3361f }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f6f6; padding: .6rem; border-radius: 4px }
"""


def page(title: str, summary: Sequence[tuple[str, str]], funnel: Funnel, rows: Sequence[dict[str, Any]]) -> str:
    """The page. `rows` are rows of the data set; those with a `reason` were rejected. Accepted ones come first."""
    facts = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in summary)
    steps = "".join(
        f"<tr><td>{escape(s.name)}</td><td>{escape(s.unit)}</td><td class=number>{s.entered:,}</td>"
        f"<td class=number>{s.left:,}</td><td>{escape(', '.join(f'{r} {n:,}' for r, n in s.removed.items()))}</td></tr>"
        for s in funnel.steps
    )
    traces = "".join(_trace(row) for row in sorted(rows, key=lambda row: "reason" in row))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{escape(title)}</h1><table>{facts}</table><h2>Funnel</h2>"
        f"<table><tr><th>step<th><th>in<th>out<th>removed</tr>{steps}</table><h2>Samples</h2>{traces}</html>\n"
    )


def _trace(row: dict[str, Any]) -> str:
    rejected = "reason" in row
    verdict = f"rejected: {row['reason']}" if rejected else "accepted"
    parts = "".join(
        f"<h4>{name}</h4><pre>{escape(_cut(row[name]))}</pre>"
        for name in ("question", "reference", "thinking", "response")
    )
    detail = f"<p>{escape(row['detail'])}</p>" if row.get("detail") else ""
    kind = "rejected" if rejected else "accepted"
    heading = f"{escape(row['source'])}, {escape(row['id'])}, sample {row['sample']}: {escape(verdict)}"
    return f"<article class={kind}><h3>{heading}</h3>{detail}{parts}</article>"


def _cut(text: str) -> str:
    more = len(text) - _MOST_CHARACTERS
    return text if more <= 0 else f"{text[:_MOST_CHARACTERS]}\n… ({more:,} more characters)"
