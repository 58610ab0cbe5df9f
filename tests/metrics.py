"""Metrics as docs/monitoring.md lists them, and as a scrape has them."""

from __future__ import annotations

import re

from tests.kube import ROOT

DOCS = (ROOT / "docs/monitoring.md").read_text()


def documented() -> dict[str, set[str]]:
    """Labels by metric, of both tables of the page."""
    rows = re.findall(r"^\| `(distillrun_\w+)` \|([^|]*)\|", DOCS, re.MULTILINE)
    return {name: set(re.findall(r"\w+", labels)) for name, labels in rows}


def typed(text: str) -> set[str]:
    """The metrics that a scrape declares, with or without samples."""
    return set(re.findall(r"^# TYPE (distillrun_\w+) ", text, re.MULTILINE))


def sampled(text: str) -> dict[str, set[str]]:
    """Labels by metric, of those that have samples; a histogram goes by its own name."""
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(distillrun_\w+?)(?:_bucket|_count|_sum)?(?:{(.*)})? \S+$", text, re.MULTILINE):
        found.setdefault(name, set()).update(set(re.findall(r'(\w+)="', labels)) - {"le"})
    return found
