"""Models besides the teacher, from end to end: difficulty, domains and rewriting, each against servers of its own."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from distillstages.common import config as configuration
from distillstages.common.exit import ConfigFault, DataFault, Temporary
from distillstages.common.metrics import Metrics
from distillstages.common.worker import Context, as_stage_error, open_output
from distillstages.curate.curation import Curation
from tests.stages.curate.conftest import Stage, additions
from tests.stages.curate.fake_teacher import FakeTeacher, Raw, add, completion, solve

SUM = re.compile(r"(\d+)\+(\d+)=\?")


def solves(those: Callable[[int], bool]) -> Callable[[str, int], Raw]:
    """A model that answers rightly where `those` says so of the first term, and else wrongly."""

    def behave(question: str, nth: int) -> Raw:
        wrong = not those(int(question.partition("+")[0]))
        return completion(f"<think>\nhm\n</think>\n\n\\boxed{{{int(add(question)) + wrong}}}")

    return behave


def model(name: str, server: FakeTeacher, **more: Any) -> dict[str, Any]:
    return {"name": name, "url": server.url, "model": f"{name}-1", "requestTimeoutSeconds": 60, **more}


def first_terms(rows: list[dict[str, Any]]) -> list[int]:
    return [int(row["question"].partition("+")[0]) for row in rows]


def label(prompt: str, nth: int) -> Raw:
    """A labeler that knows odd from even, and now and then says neither."""
    found = SUM.search(prompt)
    assert found is not None
    number = int(found[1])
    return completion("I cannot tell." if number == 4 else f"**{'odd' if number % 2 else 'even'} sums**.")


def rewritten(prompt: str, nth: int) -> Raw:
    """A writer that keeps the answer, but for 1 (another one) and 2 (no thought part)."""
    found = SUM.search(prompt)
    assert found is not None
    total = int(found[1]) + int(found[2])
    thought, solution = f"Thinking of {total}.", f"It is \\boxed{{{total + (found[1] == '1')}}}."
    if found[1] == "2":
        return completion(solution)
    return completion(
        f"<|begin_of_thought|>\n\n{thought}\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n{solution}\n\n"
        "<|end_of_solution|>",
        tokens=11,
    )


def inside(stage: Stage) -> dict[str, Any]:
    """The stage in this process, which is started once and not for each test; its numbers. Raises StageError."""
    config = configuration.parse(yaml.safe_dump(stage.config))
    output = open_output(config)
    output.claim()
    try:
        return asyncio.run(Curation(Context(config, output, Metrics(), threading.Event())).run())
    except ExceptionGroup as error:
        raise as_stage_error(error) from error


def test_only_what_all_weaker_models_fail_is_asked_of_the_teacher(make_stage: Any) -> None:
    with (
        FakeTeacher() as teacher,
        FakeTeacher(solves(lambda n: n % 3 == 0)) as small,
        FakeTeacher(solves(lambda n: n % 3 == 1)) as medium,
    ):
        stage = make_stage(
            teacher.url,
            additions(9),
            models=[model("small", small), model("medium", medium)],
            difficulty={"models": ["small", "medium"], "maxTokens": 77},
        )
        numbers = inside(stage)
        assert (small.total, medium.total, teacher.total) == (9, 6, 3)
        assert (small.requests[0]["temperature"], small.requests[0]["max_tokens"]) == (0.0, 77)
    assert first_terms(stage.rows()) == [2, 5, 8]
    left_out = [(row["step"], row["reason"], row["detail"]) for row in stage.rows("filtered")]
    assert left_out[0] == ("difficulty", "TooEasy", "1 of 1 answers of small, medium are right")
    assert [reason for _, reason, _ in left_out] == ["TooEasy"] * 6
    assert numbers["funnel"] == {"read": 9, "deduplicate": 9, "difficulty": 3, "verify": 3}
    answers = [
        (row["model"], int(row["question"].partition("+")[0]), row["reason"]) for row in stage.rows("difficulty")
    ]
    assert answers[:3] == [("small", 0, ""), ("small", 1, "WrongAnswer"), ("medium", 1, "")]
    assert len(answers) == 15
    assert numbers["paid"] == {
        "t": {"promptTokens": 9, "completionTokens": 21},
        "small": {"promptTokens": 27, "completionTokens": 63},
        "medium": {"promptTokens": 18, "completionTokens": 42},
    }
    card = (stage.output / "README.md").read_text()
    assert "Difficulty by small-1 (small), medium-1 (medium), 1 answers each" in card
    names = sorted(path.name for path in (stage.output / ".partial").glob("answers*"))
    assert names == [f"answers{model}000001-0001.jsonl" for model in ("-", ".medium.", ".small.")]


def test_a_pool_that_is_too_easy_is_said_to_be(make_stage: Any) -> None:
    with FakeTeacher() as teacher, FakeTeacher() as small:
        stage = make_stage(teacher.url, models=[model("small", small)], difficulty={"models": ["small"]})
        with pytest.raises(DataFault, match="no question is left to ask: read 5, TooEasy 5"):
            inside(stage)
        assert (small.total, teacher.total) == (5, 0)


def test_only_what_a_model_rates_within_its_sources_window_is_asked_of_the_teacher(make_stage: Any) -> None:
    def rate(prompt: str, nth: int) -> Raw:
        found = SUM.search(prompt)
        assert found is not None
        return completion(f"<think>\nhm\n</think>\n\n{int(found[1]) + 1}")

    with FakeTeacher() as teacher, FakeTeacher(rate) as scorer:
        stage = make_stage(
            teacher.url,
            additions(9),
            models=[model("scorer", scorer)],
            difficulty={"models": ["scorer"], "keep": "Score", "scores": [{"source": "pool", "min": 4, "max": 6}]},
        )
        inside(stage)
    assert first_terms(stage.rows()) == [3, 4, 5]
    funnel = json.loads((stage.output / "funnel.json").read_text())["steps"]
    assert funnel[2]["removed"] == {"TooEasy": 3, "TooHard": 3}
    assert {row["detail"] for row in stage.rows("difficulty")} == set("123456789")


def test_a_labelers_domain_replaces_the_sources_and_is_counted_in_the_card(make_stage: Any) -> None:
    with FakeTeacher() as teacher, FakeTeacher(label) as labeler:
        stage = make_stage(
            teacher.url,
            additions(6),
            models=[model("labeler", labeler)],
            domains={"model": "labeler", "labels": ["odd sums", "even sums"]},
            select={"strategy": "S1", "size": 5},
        )
        numbers = inside(stage)
    domains = {first: row["domain"] for row in stage.rows() for first in first_terms([row])}
    expected = {n: "general" if n == 4 else ("even sums", "odd sums")[n % 2] for n in range(6)}
    assert len(domains) == 5
    assert domains.items() <= expected.items()
    assert numbers["unreadableLabels"] == 1
    card = (stage.output / "README.md").read_text()
    assert "- Domains by labeler-1 (labeler)" in card
    assert "| odd sums |" in card
    assert "Labels that could not be read: 1" in card


def test_an_accepted_trace_is_taught_as_rewritten_unless_that_changed_its_answer(make_stage: Any) -> None:
    with FakeTeacher(solves(lambda n: n != 3)) as teacher, FakeTeacher(rewritten) as writer:
        stage = make_stage(
            teacher.url,
            additions(6),
            models=[model("writer", writer, termsReference="https://example.com/w")],
            rewrite={"model": "writer", "maxTokens": 99},
        )
        numbers = inside(stage)
        assert writer.total == 5
        assert (writer.requests[0]["temperature"], writer.requests[0]["max_tokens"]) == (0.7, 99)
    assert first_terms(stage.rows()) == [0, 4, 5]
    assert [row["thinking"] for row in stage.rows()] == ["Thinking of 1.", "Thinking of 9.", "Thinking of 11."]
    rejected = {row["question"]: (row["reason"], row["thinking"], row["detail"]) for row in stage.rows("rejected")}
    assert rejected["1+2=?"] == ("RewriteChangedAnswer", "hm", "WrongAnswer: answered 4, expected 3")
    assert rejected["2+3=?"] == ("RewriteUnusable", "hm", "the rewriting has no thought part")
    assert rejected["3+4=?"][0] == "WrongAnswer"
    kept = {row["question"]: row for row in stage.rows("rewrite")}
    assert len(kept) == 5
    assert (kept["0+1=?"]["thinking"], kept["0+1=?"]["newThinking"], kept["0+1=?"]["reason"]) == (
        "hm",
        "Thinking of 1.",
        "",
    )
    assert numbers["funnel"] == {"read": 6, "deduplicate": 6, "verify": 5, "rewrite": 3}
    assert numbers["datasetTokens"] == 3 * (3 + 11)
    assert "terms: https://example.com/w" in (stage.output / "README.md").read_text()


def test_a_curation_killed_in_any_step_asks_each_model_again_only_what_was_in_flight(make_stage: Any) -> None:
    count, at_once = 40, 4

    def everything(text: str, nth: int) -> Raw:
        return label(text, nth) if "Subjects:" in text else rewritten(text, nth)

    with (
        FakeTeacher(solve, delay=0.01) as teacher,
        FakeTeacher(solves(lambda n: n % 4 == 0), delay=0.01) as small,
        FakeTeacher(everything, delay=0.01) as other,
    ):
        stage = make_stage(
            teacher.url,
            additions(count),
            teacher={"maxConcurrency": at_once},
            models=[model("small", small, maxConcurrency=at_once), model("other", other, maxConcurrency=at_once)],
            difficulty={"models": ["small"]},
            domains={"model": "other", "labels": ["odd sums", "even sums"]},
            rewrite={"model": "other"},
        )
        for server, requests in ((small, 20), (other, 45)):
            stage.start()
            until_asked(server, requests, stage)
            stage.kill()
            stage.attempt += 1
        finished = stage.run()
        assert finished.code == 0, finished.log
        asked = [small.total, other.total, teacher.total]
    assert len(stage.rows()) == 28  # of the 30 that `small` fails, 1 and 2 are spoilt by the rewriting
    for requests, needed in zip(asked, (40, 60, 30), strict=True):
        assert needed <= requests <= needed + 4 * at_once
    assert finished.numbers["paid"]["other"]["promptTokens"] == 3 * 60


def until_asked(server: FakeTeacher, requests: int, stage: Stage) -> None:
    """Wait until the server has received so many requests."""
    deadline = time.monotonic() + 120
    while server.total < requests:
        assert stage.process is not None
        assert stage.process.poll() is None, stage.log
        assert time.monotonic() < deadline, f"{server.total} of {requests} requests"
        time.sleep(0.002)


def test_what_one_model_does_counts_together_and_its_used_up_day_is_said_to_be_its_own(make_stage: Any) -> None:
    def useless(text: str, nth: int) -> Raw:
        return completion("I do not know.")

    with FakeTeacher() as teacher, FakeTeacher(useless) as small:
        stage = make_stage(
            teacher.url,
            models=[model("small", small, requestsPerDay=7)],
            difficulty={"models": ["small"]},
            domains={"model": "small"},
        )
        with pytest.raises(
            Temporary, match=r"model 'small'.* its requestsPerDay of 7 .* 3 answers are missing"
        ) as error:
            inside(stage)
        assert (small.total, teacher.total) == (7, 0)
    assert error.value.reason == "TeacherDailyLimit"


def test_a_key_that_is_missing_is_named_before_anybody_is_asked(make_stage: Any) -> None:
    with FakeTeacher() as teacher, FakeTeacher() as small:
        key = {"secret": "weak", "key": "token", "env": "NOT_SET"}
        stage = make_stage(
            teacher.url, models=[model("small", small, apiKey=key)], difficulty={"models": ["small"], "samples": 2}
        )
        with pytest.raises(ConfigFault, match=r"the key of model 'small' .* NOT_SET .* 'token' of the Secret 'weak'"):
            inside(stage)
        assert (small.total, teacher.total) == (0, 0)


def test_answers_of_all_models_are_taken_over_by_a_run_with_another_selection(make_stage: Any) -> None:
    with (
        FakeTeacher() as teacher,
        FakeTeacher(solves(lambda n: n % 3 == 0)) as small,
        FakeTeacher(label) as labeler,
        FakeTeacher(rewritten) as writer,
    ):
        servers = (teacher, small, labeler, writer)
        steps = {
            "models": [model("small", small), model("labeler", labeler), model("writer", writer)],
            "difficulty": {"models": ["small"]},
            "domains": {"model": "labeler", "labels": ["odd sums", "even sums"]},
            "rewrite": {"model": "writer"},
        }
        first = make_stage(teacher.url, additions(9), **steps)
        inside(first)
        before = [server.total for server in servers]
        second = make_stage(teacher.url, additions(9), **steps, select={"strategy": "Random", "size": 2})
        second.root, second.fingerprint = first.folder / "artifacts", "a" * 64
        numbers = inside(second)
        assert [server.total for server in servers] == before == [6, 9, 6, 6]
    assert numbers["reusedAnswers"] == 27
    assert numbers["paid"]["writer"] == {"promptTokens": 0, "completionTokens": 0}
    assert len(second.rows()) == 2
