"""Labels of questions: how they are read off what a model says, and domains out of a column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distillstages.common import reasons
from distillstages.common.blocks import Curate, Domains
from distillstages.common.exit import DataFault
from distillstages.common.sources import Question
from distillstages.curate import domains, pool
from distillstages.curate.records import Answer
from distillstages.curate.subjects import SUBJECTS
from tests.stages.curate.conftest import write_jsonl

KNOWN = ("Physics", "Quantum physics", "Geometry", "Convex and discrete geometry", "C++")


@pytest.mark.parametrize(
    ("response", "label"),
    [
        ("Geometry", "Geometry"),
        ("geometry.", "Geometry"),
        ("**Geometry**", "Geometry"),
        ("Subject: Geometry", "Geometry"),
        ("The subject is: convex and  discrete geometry", "Convex and discrete geometry"),
        ("- Quantum physics", "Quantum physics"),
        ("It touches physics.\n\nGeometry", "Geometry"),
        ("This is best filed under quantum physics, I think.", "Quantum physics"),
        ("C++", "C++"),
        ("Physics or geometry", None),
        ("Biogeometry", None),
        ("no idea", None),
        ("", None),
    ],
)
def test_a_label_is_found_where_a_model_gives_one_and_only_one(response: str, label: str | None) -> None:
    assert domains.find(KNOWN, response) == label


def test_the_subjects_that_stand_in_for_labels_are_each_found_again_and_named_in_the_prompt() -> None:
    assert all(domains.find(SUBJECTS, subject) == subject for subject in SUBJECTS)
    prompt = domains.prompt(Domains(model="m"), Question("k", "k", "s", "Is {x} prime?", "yes"))
    assert "Is {x} prime?" in prompt
    assert all(f"\n- {subject}\n" in prompt for subject in SUBJECTS)


def test_what_gives_no_label_is_unreadable_and_says_what_was_found() -> None:
    config = Domains(model="m", labels=["a", "b"])
    assert domains.verdict(config, Answer("k", 0, "<think>a b</think>b")) == (None, "b")
    assert domains.verdict(config, Answer("k", 0, "either a or b")) == (
        reasons.UNREADABLE_LABEL,
        "expected one of the labels, found 'either a or b'",
    )
    reason, detail = domains.verdict(config, Answer("k", 0, error=("RequestFailed", "HTTP 500")))
    assert (reason, detail) == (reasons.UNREADABLE_LABEL, "RequestFailed: HTTP 500")


def sourced(tmp_path: Path, rows: list[dict[str, Any]], **source: Any) -> Curate:
    uri = write_jsonl(tmp_path / "q.jsonl", rows).as_uri()
    teacher = {"name": "t", "url": "http://t/v1", "model": "m"}
    sources = [{"name": "pool", "uri": uri, **source}]
    return Curate.model_validate({"teacher": teacher, "sources": sources, "domains": {"column": "subject"}})


def test_a_columns_domain_replaces_the_sources_and_a_row_without_one_keeps_it(tmp_path: Path) -> None:
    rows = [{"question": f"q{n}", "answer": "1", "subject": s} for n, s in enumerate((" number  theory", None, 7))]
    found = pool.read(sourced(tmp_path, rows), 1)
    assert [found.domain(q) for q in found.questions] == ["number theory", "general", "7"]
    found = pool.read(sourced(tmp_path, rows, domain="math"), 1)
    assert [found.domain(q) for q in found.questions] == ["number theory", "math", "7"]


def test_a_column_that_is_not_there_is_an_error_unless_the_source_has_a_domain(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "1"}]
    with pytest.raises(DataFault, match=r"no field 'subject'.*curate.domains.column"):
        pool.read(sourced(tmp_path, rows), 1)
    assert list(pool.read(sourced(tmp_path, rows, domain="math"), 1).labels.values()) == ["math"]
    with pytest.raises(DataFault, match="expected the question's domain as text"):
        pool.read(sourced(tmp_path, [{**rows[0], "subject": ["a"]}]), 1)
