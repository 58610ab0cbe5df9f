"""Curation from end to end, as processes, against a real HTTP server that plays the teacher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distillstages.common.artifacts import Output
from tests.stages.curate.conftest import additions, write_jsonl
from tests.stages.curate.fake_teacher import FakeTeacher, Raw, add, completion, solve


def wrong_for_even(question: str, nth: int) -> Raw:
    """Right for odd first terms, and wrong, silent, cut off or garbled for the others."""
    first = int(question.partition("+")[0])
    answers = {
        0: completion(f"<think>\nhm\n</think>\n\n\\boxed{{{int(add(question)) + 1}}}"),
        2: completion("<think>\nhm\n</think>\n\nI do not know."),
        4: completion("<think>\nstill thinking", finish="length"),
        6: completion("<think>\nonly thoughts\n</think>\n"),
        8: completion(f"ok <|im_start|> \\boxed{{{add(question)}}}"),
    }
    return answers.get(first) or solve(question, nth)


def test_every_trace_is_accepted_or_rejected_with_a_reason(make_stage: Any) -> None:
    with FakeTeacher(wrong_for_even) as teacher:
        stage = make_stage(teacher.url, additions(12))
        finished = stage.run()
    assert finished.code == 0, finished.log
    assert finished.message["outcome"] == "Succeeded"
    assert finished.message["artifact"] == stage.output.as_uri() + "/"
    assert finished.numbers == {
        "questions": 12,
        "accepted": 7,
        "rejected": 5,
        "rejectedByReason": {"Malformed": 2, "NoAnswer": 1, "Truncated": 1, "WrongAnswer": 1},
        "duplicates": 0,
        "requests": 12,
        "reusedAnswers": 0,
        "promptTokens": 36,
        "completionTokens": 84,
        "paid": {"t": {"promptTokens": 36, "completionTokens": 84}},
        "contaminated": 0,
        "datasetTokens": 70,
        "funnel": {"read": 12, "deduplicate": 12, "verify": 7},
    }
    rows = stage.rows()
    assert [r["question"] for r in rows] == [f"{n}+{n + 1}=?" for n in (1, 3, 5, 7, 9, 10, 11)]
    assert {r["thinking"] for r in rows} == {"Add the two."}
    assert rows[0]["response"] == "The sum is \\boxed{3}."
    assert rows[0]["reference"] == "3"
    rejected = {r["question"]: (r["reason"], r["detail"]) for r in stage.rows("rejected")}
    assert rejected["0+1=?"] == ("WrongAnswer", "answered 2, expected 1")
    assert rejected["4+5=?"][0] == "Truncated"
    assert "WrongAnswer" in (stage.output / "sample.md").read_text()


def test_the_result_file_says_what_was_published_and_by_whose_terms(make_stage: Any) -> None:
    with FakeTeacher() as teacher:
        stage = make_stage(teacher.url, teacher={"termsReference": "https://example.com/terms"})
        finished = stage.run()
    result = json.loads((stage.output / "result.json").read_text())
    assert result["apiVersion"] == "distillrun.dev/result/v1"
    assert (result["stage"], result["fingerprint"], result["attempt"]) == ("curate", "9c" * 32, 1)
    assert result["numbers"] == finished.numbers
    assert result["outputs"]["dataset"] == "dataset/"
    assert result["details"]["teacher"]["termsReference"] == "https://example.com/terms"


def test_a_mixture_is_drawn_by_shares_and_the_result_says_of_how_many(make_stage: Any, tmp_path: Path) -> None:
    sums = write_jsonl(tmp_path / "sums.jsonl", additions(40))
    more = write_jsonl(tmp_path / "more.jsonl", additions(60)[40:])
    sources = [
        {"name": "sums", "uri": sums.as_uri(), "share": 0.2},
        {"name": "more", "uri": more.as_uri(), "share": 0.8, "take": 8, "pick": "Random"},
    ]
    with FakeTeacher() as teacher:
        stage = make_stage(teacher.url, sources=sources)
        finished = stage.run()
    assert finished.code == 0, finished.log
    mixture = json.loads((stage.output / "result.json").read_text())["details"]["mixture"]
    assert mixture == [{"source": "sums", "questions": 2, "of": 40}, {"source": "more", "questions": 8, "of": 20}]
    assert [row["source"] for row in stage.rows()] == ["sums"] * 2 + ["more"] * 8
    assert "| questions of more | 8 of 20 |" in (stage.output / "sample.md").read_text()


def test_a_finished_stage_started_again_asks_nothing_and_says_the_same(make_stage: Any) -> None:
    with FakeTeacher() as teacher:
        stage = make_stage(teacher.url)
        first = stage.run()
        asked = teacher.total
        stage.attempt = 2
        second = stage.run()
    assert (first.code, second.code) == (0, 0)
    assert teacher.total == asked
    assert second.message == first.message


def test_the_same_recorded_answers_give_the_same_bytes(make_stage: Any) -> None:
    published = ["dataset/part-00000.parquet", "rejected/part-00000.parquet", "sample.md"]
    with FakeTeacher(wrong_for_even) as teacher:
        stage = make_stage(teacher.url, additions(12), generate={"samples": 2})
        first = stage.run()
        before = {name: (stage.output / name).read_bytes() for name in published}
        for name in [*published, "result.json"]:
            (stage.output / name).unlink()
        # Without the recorded verdicts, too: they follow from the answers.
        for path in (stage.output / ".partial").glob("answers-*"):
            lines = [line for line in path.read_text().splitlines(True) if '"kind":"answer"' in line]
            path.write_text("".join(lines))
        second = stage.run()
    assert teacher.total == 24
    assert {name: (stage.output / name).read_bytes() for name in published} == before
    assert second.numbers == first.numbers


def test_samples_of_a_question_are_asked_and_judged_one_by_one(make_stage: Any) -> None:
    with FakeTeacher(lambda q, nth: solve(q, nth) if nth > 1 else completion("no idea")) as teacher:
        stage = make_stage(teacher.url, additions(3), generate={"samples": 3})
        finished = stage.run()
    assert finished.numbers["questions"] == 3
    assert (finished.numbers["accepted"], finished.numbers["rejected"]) == (6, 3)
    assert sorted({r["sample"] for r in stage.rows()} | {r["sample"] for r in stage.rows("rejected")}) == [0, 1, 2]


def test_no_more_requests_are_open_than_the_endpoint_allows(make_stage: Any) -> None:
    with FakeTeacher(delay=0.02) as teacher:
        stage = make_stage(teacher.url, additions(40), teacher={"maxConcurrency": 3})
        assert stage.run().code == 0
        assert teacher.most_open <= 3


def test_the_request_carries_what_the_configuration_says(make_stage: Any) -> None:
    with FakeTeacher() as teacher:
        stage = make_stage(
            teacher.url,
            additions(1),
            teacher={"apiKey": {"secret": "teacher", "key": "apiKey", "env": "TEST_TEACHER_KEY"}},
            generate={"temperature": 0.3, "topP": 0.9, "maxTokens": 99, "systemPrompt": "Think first."},
        )
        stage.environment["TEST_TEACHER_KEY"] = "sk-very-secret-1234"
        finished = stage.run()
        request = teacher.requests[0]
    assert finished.code == 0
    assert teacher.authorizations == ["Bearer sk-very-secret-1234"]
    assert [m["role"] for m in request["messages"]] == ["system", "user"]
    assert (request["temperature"], request["top_p"], request["max_tokens"]) == (0.3, 0.9, 99)
    assert request["model"] == "fake"
    written = [p for p in stage.folder.rglob("*") if p.is_file()]
    assert not [p for p in written if b"sk-very-secret-1234" in p.read_bytes()], "the key lies on disk"


def test_reasoning_in_a_field_of_its_own_or_between_the_teachers_own_delimiters_is_the_thinking(
    make_stage: Any,
) -> None:
    def reason(question: str, nth: int) -> Any:
        solved = f"\\boxed{{{add(question)}}}"
        if question == "0+1=?":
            return completion(solved, reasoning="Carry nothing.")
        if question == "1+2=?":
            return completion(solved, reasoning="Carry nothing.", field="reasoning")
        return completion(f"[THINK]Carry nothing.[/THINK] {solved}")

    with FakeTeacher(reason) as teacher:
        marks = {"open": "[THINK]", "close": "[/THINK]"}
        stage = make_stage(teacher.url, additions(3), generate={"reasoningDelimiters": marks})
        assert stage.run().code == 0
    assert [row["thinking"] for row in stage.rows()] == ["Carry nothing."] * 3
    assert stage.rows()[0]["thinking"] == "Carry nothing."
    assert stage.rows()[0]["response"] == "\\boxed{1}"


def test_a_duplicate_question_is_asked_once_and_counted(make_stage: Any) -> None:
    with FakeTeacher() as teacher:
        stage = make_stage(teacher.url, [*additions(3), *additions(2)])
        finished = stage.run()
        assert teacher.total == 3
    assert (finished.numbers["questions"], finished.numbers["duplicates"]) == (3, 2)
    assert len(stage.rows()) == 3


def test_nothing_accepted_fails_with_the_reasons_and_keeps_the_rejected(make_stage: Any) -> None:
    with FakeTeacher(lambda q, nth: completion("\\boxed{-1}")) as teacher:
        stage = make_stage(teacher.url, additions(4))
        finished = stage.run()
    assert finished.code == 65
    assert finished.message["reason"] == "NothingAccepted"
    assert "WrongAnswer 4" in finished.message["message"]
    assert len(stage.rows("rejected")) == 4
    assert not (stage.output / "result.json").exists()
    assert not (stage.output / "dataset").exists()


def claim(folder: Path, attempt: int) -> None:
    """As another attempt's pod does."""
    Output(folder.as_uri(), stage="curate", fingerprint="9c" * 32, attempt=attempt, who=f"pod-{attempt}").claim()


def test_an_attempt_that_a_newer_one_has_overtaken_publishes_nothing(make_stage: Any) -> None:
    outputs: list[Path] = []

    def overtake(question: str, nth: int) -> Raw:
        claim(outputs[0], 2)
        return solve(question, nth)

    with FakeTeacher(overtake) as teacher:
        stage = make_stage(teacher.url)
        outputs.append(stage.output)
        finished = stage.run()
    assert finished.code == 75
    assert finished.message["reason"] == "SupersededAttempt"
    assert not (stage.output / "result.json").exists()
    assert not (stage.output / "dataset").exists()
    # Its paid answers are there for the newer one.
    assert sum(line["kind"] == "answer" for line in stage.journal()) == 5


def test_an_older_attempt_that_comes_late_asks_nothing(make_stage: Any) -> None:
    with FakeTeacher() as teacher:
        stage = make_stage(teacher.url)
        claim(stage.output, 7)
        finished = stage.run()
        assert teacher.total == 0
    assert (finished.code, finished.message["reason"]) == (75, "SupersededAttempt")


def test_a_broken_row_ends_with_its_file_its_line_and_what_was_expected(make_stage: Any) -> None:
    with FakeTeacher() as teacher:
        stage = make_stage(teacher.url)
        questions = stage.folder / "questions.jsonl"
        questions.write_text(questions.read_text() + '{"question": "1+1=?", "answer"\n')
        finished = stage.run()
        assert teacher.total == 0
    assert (finished.code, finished.message["reason"]) == (65, "RowBroken")
    assert "questions.jsonl row 6" in finished.message["message"]
    assert "Traceback" not in finished.log
