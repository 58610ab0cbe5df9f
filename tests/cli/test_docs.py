"""What users are told: every reason that can stand in a status is explained."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from distillrun.plan import reasons as planned
from distillstages.common import reasons as staged

ROOT = Path(__file__).resolve().parents[2]
TROUBLES = (ROOT / "docs" / "troubleshooting.md").read_text()
CONDITIONS = {
    planned.READY,
    planned.RECONCILING,
    planned.CURATED,
    planned.TRAINED,
    planned.EVALUATED,
    planned.SERVING,
    planned.FEASIBLE,
}


def constants(module: ModuleType) -> set[str]:
    return {value for name, value in vars(module).items() if name.isupper() and isinstance(value, str)}


@pytest.mark.parametrize("reason", sorted((constants(planned) | constants(staged)) - CONDITIONS))
def test_every_reason_is_explained_in_troubleshooting(reason: str) -> None:
    rows = [line for line in TROUBLES.splitlines() if line.startswith("|") and f"`{reason}`" in line.split("|")[1]]
    assert len(rows) == 1, f"{reason} has {len(rows)} rows"


PAGES = ("quickstart.md", "install.md", "troubleshooting.md", "monitoring.md", "gitops.md", "operations.md")


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\((?!https://)([^)#]+)\)", (ROOT / "docs" / page).read_text()):
        assert (ROOT / "docs" / link).exists(), link


def test_every_file_that_the_pages_name_is_there() -> None:
    for page in PAGES:
        text = (ROOT / "docs" / page).read_text()
        for path in re.findall(r"\b(?:manifests|charts|hack)/[\w./-]+\w", text):
            assert (ROOT / path).exists(), path
