"""The teacher client by itself: waiting, asking again, telling a bad question from a bad teacher."""

from __future__ import annotations

import asyncio
import datetime
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillstages.common.blocks import Generate
from distillstages.common.blocks import Teacher as TeacherConfig
from distillstages.common.exit import ConfigFault, Temporary
from distillstages.curate.backoff import Backoff, retry_after
from distillstages.curate.records import Answer
from distillstages.curate.replies import Failure, parse_completion, problem_of
from distillstages.curate.teacher import Teacher
from tests.stages.curate.fake_teacher import FakeTeacher, Raw, completion, solve

NOW = datetime.datetime(2026, 1, 1, 12, 0, 0, tzinfo=datetime.UTC)


class Recorded(Backoff):
    """Waits next to nothing, and notes what it would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[int] = []
        self.told: list[float] = []

    def wait(self, failures: int) -> float:
        self.waits.append(failures)
        return 0.001

    def after(self, seconds: float) -> float:
        self.told.append(seconds)
        return seconds + 0.001


def ask(
    behaviour: Callable[[str, int], Any],
    questions: list[str],
    *,
    answered: int = 0,
    remaining: int = 100,
    backoff: Backoff | None = None,
    **config: Any,
) -> list[Answer]:
    """Ask the questions one after the other."""

    async def run(url: str) -> list[Answer]:
        settings = TeacherConfig(**{"name": "t", "url": url, "model": "fake", "request_timeout_seconds": 30, **config})
        async with Teacher(
            settings,
            Generate(),
            api_key=None,
            backoff=backoff or Recorded(),
            answered=answered,
            remaining=lambda: remaining,
        ) as teacher:
            return [await teacher.ask(q, 0, q) for q in questions]

    with FakeTeacher(behaviour) as server:
        return asyncio.run(run(server.url))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_understood_as_seconds_and_as_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


@given(st.text(max_size=40))
def test_no_retry_after_header_makes_us_fail(value: str) -> None:
    found = retry_after(value, NOW)
    assert found is None or found >= 0


@given(st.integers(1, 10_000))
def test_backoff_grows_to_its_cap_and_is_jittered_over_all_of_it(failures: int) -> None:
    backoff = Backoff(base_seconds=1, cap_seconds=60, random=random.Random(failures))
    waits = [backoff.wait(failures) for _ in range(50)]
    limit = min(60, 2 ** min(failures - 1, 10))
    assert all(0 <= wait <= limit for wait in waits)
    assert max(waits) > limit / 2 > min(waits)


def test_a_wait_that_the_teacher_asks_for_is_kept_and_never_cut_short() -> None:
    backoff = Recorded()
    limited = Raw(429, {"error": "later"}, {"Retry-After": "0.2"})
    (answer,) = ask(lambda q, nth: limited if nth < 3 else solve(q, nth), ["1+1=?"], backoff=backoff)
    assert answer.error is None
    assert answer.requests == 3
    assert backoff.waits == []
    assert len(backoff.told) >= 2
    assert all(0 < told <= 0.2 for told in backoff.told)


def test_everybody_waits_once_the_quota_of_all_is_used_up() -> None:
    exhausted = True
    asked = []

    def quota(question: str, nth: int) -> Raw:
        nonlocal exhausted
        asked.append(question)
        exhausted = exhausted and len(asked) < 3
        return Raw(429, {"error": "later"}, {"Retry-After": "1"}) if exhausted else solve(question, nth)

    async def run(url: str) -> list[Answer]:
        config = TeacherConfig(name="t", url=url, model="fake")
        async with Teacher(config, Generate(), api_key=None, backoff=Recorded()) as teacher:
            await asyncio.gather(teacher.ask("1+1=?", 0, "1+1=?"), teacher.ask("2+2=?", 0, "2+2=?"))
            return [await teacher.ask("3+3=?", 0, "3+3=?")]

    with FakeTeacher(quota) as server:
        asyncio.run(run(server.url))
    assert sorted(asked) == ["1+1=?", "1+1=?", "2+2=?", "2+2=?", "3+3=?"]


def test_failures_in_a_row_are_waited_for_longer_and_longer() -> None:
    backoff = Recorded()
    ask(lambda q, nth: Raw(500, "oops") if nth < 5 else solve(q, nth), ["1+1=?"], backoff=backoff)
    assert backoff.waits == [1, 2, 3, 4]


def test_a_newer_models_name_for_the_token_limit_is_learned_once() -> None:
    seen = []

    def strict(question: str, nth: int) -> Raw:
        said = {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}}
        seen.append(question)
        return Raw(400, said) if len(seen) == 1 else solve(question, nth)

    answers = ask(strict, ["1+1=?", "2+2=?"])
    assert [a.error for a in answers] == [None, None]
    assert seen == ["1+1=?", "1+1=?", "2+2=?"]


def test_a_question_that_always_fails_while_others_succeed_is_rejected() -> None:
    async def run(url: str) -> list[Answer]:
        config = TeacherConfig(name="t", url=url, model="fake", max_attempts_per_request=3)
        async with Teacher(config, Generate(), api_key=None, backoff=Recorded(), remaining=lambda: 100) as teacher:
            asking = asyncio.create_task(teacher.ask("bad", 0, "bad"))
            others = [await teacher.ask(q, 0, q) for q in [f"{n}+1=?" for n in range(20)]]
            return [*others, await asking]

    with FakeTeacher(lambda q, nth: Raw(500, "too hard") if q == "bad" else solve(q, nth), delay=0.005) as server:
        *others, bad = asyncio.run(run(server.url))
    assert all(a.error is None for a in others)
    assert bad.error == ("RequestFailed", "HTTP 500: 'too hard'")
    assert bad.requests == 3


def test_when_nothing_succeeds_the_teacher_is_blamed_and_not_the_question() -> None:
    with pytest.raises(Temporary) as caught:
        ask(lambda q, nth: Raw(500, "down"), ["1+1=?"], max_attempts_per_request=3, answered=50)
    assert caught.value.reason == "TeacherUnavailable"
    assert "in 3 requests, last: HTTP 500: 'down'" in caught.value.message


def test_the_last_question_of_all_cannot_hold_back_the_end_for_ever() -> None:
    (answer,) = ask(lambda q, nth: Raw(200, "garbage"), ["bad"], answered=50, remaining=1)
    assert answer.error is not None
    assert answer.error[0] == "Malformed"


def test_a_redirect_is_refused_with_its_target() -> None:
    with pytest.raises(ConfigFault, match="https://elsewhere/login"):
        ask(lambda q, nth: Raw(302, "", {"Location": "https://elsewhere/login"}), ["1+1=?"])


def test_a_url_that_is_none_is_a_mistake_in_the_configuration() -> None:
    async def run() -> None:
        config = TeacherConfig(name="t", url="http://[bad/v1", model="m")
        async with Teacher(config, Generate(), api_key=None) as teacher:
            await teacher.ask("k", 0, "q")

    with pytest.raises(ConfigFault, match="its url cannot be used"):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON: an empty body"),
        (b"<html>", "not JSON: '<html>'"),
        (b"[1]", "JSON, but no object"),
        (b"{}", "no choices"),
        (b'{"choices": []}', "no choices"),
        (b'{"choices": ["x"]}', "no choices"),
        (b'{"choices": [{"text": "x"}]}', "a choice without a message"),
        (b'{"error": {"message": "overloaded"}}', "HTTP 200 with an error: overloaded"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_body_that_is_no_completion_is_described(body: bytes, said: str) -> None:
    found = parse_completion(body)
    assert isinstance(found, Failure)
    assert said in found.detail


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_fields_of_any_type_are_survived(value: Any) -> None:
    import json

    for document in (
        {"choices": [{"message": {"content": value, "reasoning": value}, "finish_reason": value}], "usage": value},
        {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": value}, "model": value},
        {"choices": value, "error": value},
        value,
    ):
        body = json.dumps(document).encode()
        parse_completion(body)
        problem_of(body)


def test_content_in_parts_is_joined() -> None:
    found = completion("x")
    parts = b'{"choices":[{"message":{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}}]}'
    reply = parse_completion(parts)
    assert not isinstance(reply, Failure)
    assert (reply.content, reply.finish) == ("ab", "")
    plain = parse_completion(found.body)
    assert not isinstance(plain, Failure)
    assert (plain.content, plain.finish, plain.prompt_tokens, plain.completion_tokens) == ("x", "stop", 3, 7)
