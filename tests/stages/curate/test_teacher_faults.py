"""What a teacher may do wrong, and how the stage ends: as processes, with the exit codes of the contract."""

from __future__ import annotations

import socket
from typing import Any

from tests.stages.curate.conftest import additions
from tests.stages.curate.fake_teacher import Drop, FakeTeacher, Hang, Raw, solve

KEY = {"apiKey": {"secret": "teacher-secret", "key": "token", "env": "TEST_TEACHER_KEY"}}


def test_a_teacher_that_answers_401_fails_at_once_and_says_which_secret(make_stage: Any) -> None:
    said = {"error": {"message": "Incorrect API key provided: sk-wrong-123456", "code": "invalid_api_key"}}
    with FakeTeacher(lambda q, nth: Raw(401, said)) as teacher:
        stage = make_stage(teacher.url, additions(50), teacher={**KEY, "maxConcurrency": 2})
        stage.environment["TEST_TEACHER_KEY"] = "sk-wrong-123456"
        finished = stage.run()
        assert teacher.total <= 2
    assert (finished.code, finished.message["reason"]) == (78, "TeacherUnauthorized")
    assert "'teacher-secret'" in finished.message["message"]
    assert "'token'" in finished.message["message"]
    assert "sk-wrong-123456" not in str(finished.message) + finished.log


def test_a_key_that_is_not_there_fails_before_anything_is_asked(make_stage: Any) -> None:
    with FakeTeacher() as teacher:
        stage = make_stage(teacher.url, teacher=KEY)
        stage.environment["TEST_TEACHER_KEY"] = ""
        finished = stage.run()
        assert teacher.total == 0
    assert (finished.code, finished.message["reason"]) == (78, "TeacherUnauthorized")
    assert "'token' of the Secret 'teacher-secret'" in finished.message["message"]


def test_a_model_that_the_endpoint_does_not_know_fails_at_once(make_stage: Any) -> None:
    said = {"error": {"message": "The model `fake` does not exist", "code": "model_not_found"}}
    with FakeTeacher(lambda q, nth: Raw(404, said)) as teacher:
        finished = make_stage(teacher.url, teacher={"maxConcurrency": 1}).run()
        assert teacher.total == 1
    assert (finished.code, finished.message["reason"]) == (78, "TeacherRefused")
    assert "'fake'" in finished.message["message"]


def test_a_teacher_that_throttles_fails_hangs_and_babbles_now_and_then_is_survived(make_stage: Any) -> None:
    def moody(question: str, nth: int) -> Any:
        first = int(question.partition("+")[0])
        moods = [
            Raw(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.3"}),
            Raw(500, "oops"),
            Raw(200, "<html>maintenance</html>", {"Content-Type": "text/html"}),
            Hang(),
            Drop(),
            Raw(200, {"choices": []}),
            Raw(503, {"error": "overloaded"}, {"Retry-After": "0.2"}),
        ]
        return moods[first % 10] if nth == 1 and first % 10 < len(moods) else solve(question, nth)

    with FakeTeacher(moody) as teacher:
        stage = make_stage(teacher.url, additions(40), teacher={"requestTimeoutSeconds": 3})
        finished = stage.run()
        assert teacher.total == 40 + 28
    assert finished.code == 0, finished.log
    assert (finished.numbers["accepted"], finished.numbers["requests"]) == (40, 68)


def test_a_teacher_that_is_away_ends_temporarily(make_stage: Any) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        finished = make_stage(url, teacher={"maxAttemptsPerRequest": 2}).run()
    assert (finished.code, finished.message["reason"]) == (75, "TeacherUnavailable")
    assert finished.message["retryAfterSeconds"] > 0


def test_a_quota_used_up_for_hours_ends_temporarily_and_says_for_how_long(make_stage: Any) -> None:
    exhausted = Raw(429, {"error": {"message": "daily quota"}}, {"Retry-After": "7200"})
    with FakeTeacher(lambda q, nth: exhausted if q == "9+10=?" else solve(q, nth)) as teacher:
        stage = make_stage(teacher.url, additions(10), teacher={"maxConcurrency": 1})
        finished = stage.run()
    assert (finished.code, finished.message["reason"]) == (75, "TeacherRateLimited")
    assert finished.message["retryAfterSeconds"] == 7200
    assert sum(line["kind"] == "answer" for line in stage.journal()) == 9


def test_an_endpoint_that_only_babbles_ends_temporarily_and_records_nothing(make_stage: Any) -> None:
    with FakeTeacher(lambda q, nth: Raw(200, "<html>login</html>")) as teacher:
        stage = make_stage(teacher.url)
        finished = stage.run()
    assert (finished.code, finished.message["reason"]) == (75, "TeacherGarbage")
    assert "<html>login</html>" in finished.message["message"]
    assert [line["kind"] for line in stage.journal()] == ["opened"]


def test_one_question_that_the_teacher_refuses_is_rejected_and_the_rest_goes_on(make_stage: Any) -> None:
    said = {"error": {"message": "This prompt is too long", "code": "context_length_exceeded"}}
    with FakeTeacher(lambda q, nth: Raw(400, said) if q == "4+5=?" else solve(q, nth)) as teacher:
        stage = make_stage(teacher.url, additions(6), teacher={"maxConcurrency": 1})
        finished = stage.run()
        assert teacher.asked["4+5=?"] == 1
    assert finished.code == 0, finished.log
    assert finished.numbers["rejectedByReason"] == {"RequestRefused": 1}
