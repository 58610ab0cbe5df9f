"""All runs, a line each."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from distillrun.cli.listing import listing
from distillrun.cli.view import read
from distillrun.cli.words import age
from tests.cli import runs
from tests.cli.conftest import Page


def rows(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_each_run_has_a_line_with_where_it_stands_and_what_it_costs(page: Page) -> None:
    training, served = runs.training(), runs.served()
    training["metadata"]["creationTimestamp"] = "2026-03-01T09:00:00Z"
    training["status"] |= {"stage": "train", "cost": {"spent": "0.84", "estimated": "12.50", "currency": "USD"}}
    served["metadata"] |= {"name": "zeta", "creationTimestamp": "2026-02-20T12:00:00Z"}
    told = rows(page(listing([read(served), read(training)], runs.NOW, namespaces=False), width=200))
    assert told == [
        "NAME PHASE STAGE PROGRESS ETA PREEMPTED COST EXPECTED SCORE AGE MESSAGE",
        "additions Training train 2 41% 1:40 1 0.84 USD 12.50 USD 3h train attempt 2",
        "zeta Serving 1 0.8900 USD 98.5% additions 9d the student is served",
    ]


def test_namespaces_are_shown_when_all_are_listed(page: Page) -> None:
    told = rows(page(listing([read(runs.failed())], runs.NOW, namespaces=True), width=300))
    assert told[0].startswith("NAMESPACE NAME PHASE")
    assert told[1].startswith("demo-team additions Failed")
    assert "correct key apiKey of Secret teacher" in told[1]


def test_on_a_narrow_terminal_the_message_gives_way_and_nothing_else(page: Page) -> None:
    told = rows(page(listing([read(runs.failed())], runs.NOW, namespaces=True), width=110))
    assert len(told) == 2
    assert told[1].startswith("demo-team additions Failed")
    assert told[1].endswith("…")


def test_a_run_that_says_nothing_yet_has_a_line_too(page: Page) -> None:
    assert "Pending" in page(listing([read({})], datetime(2026, 1, 1, tzinfo=UTC), namespaces=True))


@pytest.mark.parametrize(
    ("seconds", "words"), [(-3, "0s"), (45, "45s"), (119, "119s"), (720, "12m"), (18_000, "5h"), (100_000, "1d")]
)
def test_ages_are_written_as_kubectl_writes_them(seconds: float, words: str) -> None:
    assert age(seconds) == words
