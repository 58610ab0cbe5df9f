"""What people read of a dataset before they spend GPU money on it: the same files for one that was made and one that
was published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from distillstages.curate import dataset, htmlpage
from distillstages.curate.funnel import Funnel

OUTPUTS: Final = {"sample": "sample.md", "page": "sample.html", "card": "README.md", "funnel": "funnel.json"}
"""The files by what `result.json` calls them."""
NAMES: Final = tuple(OUTPUTS.values())


def write(
    build: Path,
    title: str,
    summary: Sequence[tuple[str, str]],
    sampled: Sequence[dict[str, Any]],
    funnel: Funnel,
    card: str,
) -> None:
    """Write them into the folder `build`. `sampled`: rows of the dataset, and rejected ones, to be shown; `card`: the
    text of README.md. Raises OSError."""
    texts = {
        "sample.md": dataset.sample_page(title, summary, sampled),
        "sample.html": htmlpage.page(title, summary, funnel, sampled),
        "README.md": card,
        "funnel.json": funnel.document(),
    }
    for name in NAMES:
        (build / name).write_text(texts[name], encoding="utf-8")
