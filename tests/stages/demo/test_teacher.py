"""The demo's teacher, asked over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from distillstages.demo.additions import parse, question_sets
from distillstages.demo.httpd import serve
from distillstages.demo.teacher import MODEL, PATIENCE, Teacher, Temper, answer, is_wrong, main

KEY = "a-key-of-the-test"
CALM = Temper(wrong=0.0, throttle=0.0, hang=0.0)
QUESTIONS = [each.question for each in question_sets(1000, 1)[0]]


class Answer:
    """What came back: status, headers in lower case, parsed body."""

    def __init__(self, raw_head: bytes, body: bytes) -> None:
        first, *lines = raw_head.decode().split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        self.body: Any = json.loads(body)


class Client:
    """One keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        head = {"Host": "teacher", "Content-Length": str(len(body)), **headers}
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in head.items())
        self.writer.write(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)

    async def receive(self) -> Answer:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return Answer(head, await self.reader.readexactly(length))

    async def ask(self, question: str, key: str = KEY, **more: Any) -> Answer:
        body = {"model": MODEL, "messages": [{"role": "user", "content": question}], **more}
        await self.send("POST", "/v1/chat/completions", json.dumps(body).encode(), Authorization=f"Bearer {key}")
        return await self.receive()

    async def get(self, path: str, **headers: str) -> Answer:
        await self.send("GET", path, b"", **headers)
        return await self.receive()


Lesson = Callable[[Client, Teacher], Awaitable[None]]


def teach(lesson: Lesson, temper: Temper = CALM) -> None:
    """Runs the lesson against a teacher of that temper on a free port."""

    async def scene() -> None:
        teacher = Teacher(KEY, temper)
        server = await serve(teacher, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        try:
            await asyncio.wait_for(lesson(Client(reader, writer), teacher), 60)
        finally:
            writer.close()
            server.close()

    asyncio.run(scene())


def test_an_addition_is_answered_with_thinking_an_answer_and_usage() -> None:
    async def lesson(client: Client, _: Teacher) -> None:
        reply = await client.ask("347+589=?")
        (choice,) = reply.body["choices"]
        assert reply.status == 200
        assert choice["message"]["reasoning_content"] == "7+9+0=16\n4+8+1=13\n3+5+1=09"
        assert choice["message"]["content"] == r"\boxed{936}"
        assert choice["finish_reason"] == "stop"
        assert reply.body["usage"] == {"prompt_tokens": 9, "completion_tokens": 37, "total_tokens": 46}

    teach(lesson)


def test_one_connection_serves_many_requests() -> None:
    async def lesson(client: Client, teacher: Teacher) -> None:
        for question in QUESTIONS[:50]:
            assert (await client.ask(question)).status == 200
        assert teacher.outcomes == {"right": 50}

    teach(lesson)


def test_thinking_stands_in_the_content_when_asked_for_inline() -> None:
    async def lesson(client: Client, _: Teacher) -> None:
        message = (await client.ask("347+589=?")).body["choices"][0]["message"]
        assert message["content"].startswith("<think>\n7+9+0=16")
        assert message["content"].endswith(r"\boxed{936}")
        assert "reasoning_content" not in message

    teach(lesson, Temper(wrong=0, throttle=0, hang=0, inline=True))


def test_several_choices_and_a_limit_of_tokens_are_honoured() -> None:
    async def lesson(client: Client, _: Teacher) -> None:
        choices = (await client.ask("347+589=?", n=3, max_tokens=30)).body["choices"]
        assert [each["finish_reason"] for each in choices] == ["length"] * 3
        message = choices[0]["message"]
        assert len(message["reasoning_content"]) + len(message["content"]) == 30

    teach(lesson)


@pytest.mark.parametrize("seed", [7, 8])
def test_about_a_tenth_of_the_questions_is_wrong_and_the_test_knows_which(seed: int) -> None:
    wrong = {question for question in QUESTIONS if is_wrong(question, seed)}
    assert 70 <= len(wrong) <= 130

    async def lesson(client: Client, teacher: Teacher) -> None:
        for question in QUESTIONS:
            addition = parse(question)
            assert addition is not None
            content = (await client.ask(question)).body["choices"][0]["message"]["content"]
            assert (content != rf"\boxed{{{addition.answer}}}") == (question in wrong), question
        assert teacher.outcomes["wrong"] == len(wrong)

    teach(lesson, Temper(wrong=0.1, throttle=0, hang=0, seed=seed))


def test_the_same_seed_gives_the_same_answers_and_another_seed_others() -> None:
    assert [answer(each, 7) for each in QUESTIONS] == [answer(each, 7) for each in QUESTIONS]
    assert {each for each in QUESTIONS if is_wrong(each, 7)} != {each for each in QUESTIONS if is_wrong(each, 8)}


def test_blanks_in_a_question_change_nothing() -> None:
    assert all(is_wrong(each, 7) == is_wrong(each.replace("+", " + "), 7) for each in QUESTIONS)


def test_a_share_of_nought_is_never_wrong_and_of_one_always() -> None:
    assert not any(is_wrong(each, 7, 0.0) for each in QUESTIONS)
    assert all(is_wrong(each, 7, 1.0) for each in QUESTIONS)


def test_what_is_no_addition_gets_an_answer_without_a_number() -> None:
    async def lesson(client: Client, teacher: Teacher) -> None:
        reply = await client.ask("What is the capital of France?")
        assert reply.status == 200
        assert "boxed" not in reply.body["choices"][0]["message"]["content"]
        assert teacher.outcomes == {"unknown": 1}

    teach(lesson)


@pytest.mark.parametrize("key", ["", "another", KEY + "x"])
def test_a_wrong_key_is_refused_with_401_and_not_counted_as_asked(key: str) -> None:
    async def lesson(client: Client, teacher: Teacher) -> None:
        reply = await client.ask("347+589=?", key=key)
        assert reply.status == 401
        assert "API key" in reply.body["error"]["message"]
        assert KEY not in json.dumps(reply.body)
        assert teacher.outcomes == {"unauthorized": 1}
        assert not teacher.asked

    teach(lesson)


def test_a_throttled_request_says_429_and_how_long_to_wait() -> None:
    async def lesson(client: Client, _: Teacher) -> None:
        reply = await client.ask("347+589=?")
        assert reply.status == 429
        assert reply.headers["retry-after"] == "3"

    teach(lesson, Temper(throttle=1.0, retry_after=3))


def test_no_question_is_throttled_for_ever() -> None:
    async def lesson(client: Client, _: Teacher) -> None:
        statuses = [(await client.ask("347+589=?")).status for _ in range(PATIENCE + 2)]
        assert statuses == [429] * PATIENCE + [200, 200]

    teach(lesson, Temper(throttle=1.0))


def test_a_hung_request_gets_no_answer_and_its_connection_ends() -> None:
    async def lesson(client: Client, teacher: Teacher) -> None:
        with pytest.raises(asyncio.IncompleteReadError):
            await client.ask("347+589=?")
        assert teacher.outcomes == {"hung": 1}
        assert not teacher.answered

    teach(lesson, Temper(throttle=0, hang=1.0, hang_seconds=0.01))


def test_throttled_and_hung_requests_come_in_the_shares_asked_for() -> None:
    async def lesson(client: Client, teacher: Teacher) -> None:
        for question in QUESTIONS:
            await client.ask(question)
        assert 20 <= teacher.outcomes["throttled"] <= 80

    teach(lesson, Temper(throttle=0.05, hang=0))


def test_stats_tell_what_was_asked_and_answered_how_often() -> None:
    async def lesson(client: Client, _: Teacher) -> None:
        for question in ("100+100=?", "100+100=?", "200+200=?"):
            await client.ask(question)
        stats = (await client.get("/stats")).body
        assert stats["requests"] == 3
        assert stats["outcomes"] == {"right": 3}
        assert stats["questions"] == {
            "100+100=?": {"asked": 2, "answered": 2},
            "200+200=?": {"asked": 1, "answered": 1},
        }

    teach(lesson)


def test_an_unknown_model_is_404_and_names_the_one_there_is() -> None:
    async def lesson(client: Client, _: Teacher) -> None:
        reply = await client.ask("347+589=?", model="big-reasoner")
        assert reply.status == 404
        assert "big-reasoner" in reply.body["error"]["message"]
        assert MODEL in reply.body["error"]["message"]

    teach(lesson)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{", "JSON|Expecting"),
        (b"[]", "object"),
        (b'{"model": "worked-additions"}', "user message"),
        (b'{"model": "worked-additions", "messages": [{"role": "user", "content": 3}]}', "user message"),
        (b'{"model": "worked-additions", "stream": true, "messages": []}', "stream"),
        (b'{"model": "worked-additions", "n": 900, "messages": [{"role": "user", "content": "x"}]}', "from 1 to 64"),
        (
            b'{"model": "worked-additions", "max_tokens": -1, "messages": [{"role":"user","content":"x"}]}',
            "at least 1",
        ),
    ],
)
def test_a_malformed_request_is_400_and_says_why(body: bytes, word: str) -> None:
    async def lesson(client: Client, _: Teacher) -> None:
        await client.send("POST", "/v1/chat/completions", body, Authorization=f"Bearer {KEY}")
        reply = await client.receive()
        assert reply.status == 400
        assert any(each in reply.body["error"]["message"] for each in word.split("|"))

    teach(lesson)


def test_health_needs_no_key_and_the_models_do() -> None:
    async def lesson(client: Client, _: Teacher) -> None:
        assert (await client.get("/healthz")).status == 200
        assert (await client.get("/v1/models")).status == 401
        listed = await client.get("/v1/models", Authorization=f"Bearer {KEY}")
        assert [each["id"] for each in listed.body["data"]] == [MODEL]
        assert (await client.get("/else")).status == 404

    teach(lesson)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431),
    ],
)
def test_a_broken_or_oversized_request_is_refused(raw: bytes, status: int) -> None:
    async def lesson(client: Client, _: Teacher) -> None:
        client.writer.write(raw)
        assert (await client.receive()).status == status

    teach(lesson)


def test_a_start_without_a_key_is_refused_and_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TEACHER_API_KEY", raising=False)
    with pytest.raises(SystemExit):
        main(["--port", "0"])
    assert "TEACHER_API_KEY" in capsys.readouterr().err


def test_a_share_over_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--wrong", "10"])
    assert "from 0 to 1, got 10" in capsys.readouterr().err
