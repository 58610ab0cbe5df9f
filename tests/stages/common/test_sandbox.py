"""The client of the sandbox: verdicts of the real service, and patience with one that is away."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from distillstages.common import blocks
from distillstages.common.blocks import Fields
from distillstages.common.codetests import UnitTests, of_input_output
from distillstages.common.exit import ConfigFault, Temporary
from distillstages.common.grading import Grader, require_sandbox
from distillstages.common.layouts import parts_of
from distillstages.common.sandbox import Sandbox
from distillstages.common.sources import Question, read_questions
from distillstages.common.verify import Verdict
from hack.bench.measure_sandbox import FILE, problems
from tests.stages.curate.fake_teacher import Raw
from tests.stages.sandboxes import sandbox

DOUBLE = {"inputs": ["2", "3\n"], "outputs": ["4", "6"]}
ADD = {"fn_name": "add", "inputs": [[1, 2], [3, 4]], "outputs": [[3], [7]]}
COUNT = {"fn_name": "count", "inputs": [["aab"]], "outputs": [{"a": 2, "b": 1}]}
GOOD = "print(2 * int(input()))"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with sandbox() as running:
        yield running


def question(tests: dict[str, Any], layout: str = "CodeTests", **more: Any) -> Question:
    row = {"question": "Do it.", "input_output": json.dumps(tests), **more} if layout == "CodeTests" else tests
    parts = parts_of(Fields(layout=layout), row, "row 1")
    return Question("k", "k", "pool", parts.question, parts.reference, tests=parts.tests)


def graded(url: str, asked: Question, *responses: str, seconds: float = 5.0) -> list[Verdict]:
    async def ask() -> list[Verdict]:
        async with Grader(blocks.Sandbox(url=url), timeout_seconds=seconds) as grader:
            return await asyncio.gather(*(grader.verdict(asked, response) for response in responses))

    return asyncio.run(ask())


def fenced(code: str) -> str:
    return f"Here it is.\n\n```python\n{code}\n```"


def test_a_program_is_accepted_or_rejected_for_what_its_tests_find(url: str) -> None:
    responses = {
        fenced(GOOD): None,
        fenced("print(4)"): "TestsFailed",
        fenced("print(2 * int(input())"): "RuntimeError",
        fenced("while True: pass"): "TimeLimit",
        fenced("x = bytearray(1 << 40)"): "MemoryLimit",
        fenced("while True: print('x' * 10000)"): "OutputLimit",
        fenced("import os\nos.fork()"): "Forbidden",
        f"It is {GOOD}": "NoCode",
        fenced(GOOD) + "\nFor instance\n" + fenced("print(4)"): "TestsFailed",
    }
    verdicts = graded(url, question(DOUBLE), *responses, seconds=0.5)
    assert [v.reason for v in verdicts] == list(responses.values()), verdicts
    assert [v.accepted for v in verdicts] == [reason is None for reason in responses.values()]
    assert verdicts[1].detail == "wrote '4\\n'"
    assert verdicts[0].extracted == GOOD + "\n"


def test_a_function_is_called_and_what_its_site_has_imported_is_there(url: str) -> None:
    method = "class Solution:\n    def add(self, a: int, b: int) -> Optional[int]:\n        return a + b"
    plain = "from __future__ import annotations\ndef add(a: Number, b): return a + b"
    wrong = "def add(a, b): return 3"
    verdicts = graded(url, question(ADD), fenced(method), fenced(plain), fenced(wrong), fenced("def sum(a): ..."))
    assert [v.reason for v in verdicts] == [None, None, "TestsFailed", "RuntimeError"], verdicts
    counter = "def count(text): return dict(Counter(text))"
    assert graded(url, question(COUNT), fenced(counter))[0].accepted


def test_a_function_s_returned_list_and_keys_are_compared_as_their_row_means_them(url: str) -> None:
    keys = {"fn_name": "f", "inputs": [[1], [2]], "outputs": [{"1": 2}, {"2": 2}]}
    assert graded(url, question(keys), fenced("def f(n): return {n: 2}"))[0].accepted
    wrapped = question({"fn_name": "f", "inputs": [[1], [2]], "outputs": [[1], [2]]})
    bare, listed, wrong = graded(
        url, wrapped, fenced("def f(n): return n"), fenced("def f(n): return [n]"), fenced("def f(n): return [[n]]")
    )
    assert (bare.reason, listed.reason, wrong.reason) == (None, None, "TestsFailed")


def test_a_row_of_human_eval_is_judged_by_its_check_with_the_prompt_s_imports(url: str) -> None:
    row = {
        "prompt": 'import math\n\ndef floor(x):\n    """Down."""\n',
        "test": "def check(candidate):\n    assert candidate(2.5) == 2, math.pi",
        "entry_point": "floor",
    }
    good, bad = graded(
        url,
        question(row, "HumanEval"),
        fenced("def floor(x):\n    return math.floor(x)"),
        fenced("def floor(x):\n    return x"),
    )
    assert good.accepted, good
    assert bad.reason == "TestsFailed"


@pytest.mark.skipif(not FILE.exists(), reason="the shared data is not here")
def test_human_eval_s_own_solutions_pass_when_they_are_given_as_answers(url: str) -> None:
    source = blocks.Source(name="humaneval", uri=FILE.as_uri(), fields=Fields(layout="HumanEval", id="task_id"))
    questions = {asked.id: asked for asked in read_questions(source)}
    assert len(questions) == 164
    # 10 and 38 have a helper before the function that is asked for, which answers need not repeat.
    for problem in [p for p in problems() if p.name in ("HumanEval/10", "HumanEval/38")]:
        asked = questions[problem.name]
        assert isinstance(asked.tests, UnitTests)
        function = problem.solution.strip()[len(asked.tests.header) :]
        right, wrong = graded(url, asked, fenced(function), fenced(function.replace("return ", "return not ")))
        assert (right.accepted, wrong.accepted) == (True, False), (problem.name, right, wrong)


def test_the_cases_of_later_requests_count_as_well(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distillstages.common.codetests.MOST_CASES", 2)
    asked = question({"inputs": ["1", "2", "3"], "outputs": ["1", "2", "3"]})
    assert [v.reason for v in graded(url, asked, fenced("print(input())"), fenced("print(min(2, int(input())))"))] == [
        None,
        "TestsFailed",
    ]


def test_questions_without_tests_are_judged_as_before() -> None:
    async def ask() -> Verdict:
        async with Grader(None) as grader:
            return await grader.verdict(Question("k", "k", "pool", "1+1=?", "2"), "\\boxed{2}")

    assert asyncio.run(ask()).accepted


def test_tests_without_a_sandbox_are_said_before_anybody_is_asked() -> None:
    with pytest.raises(ConfigFault, match=r"'pool' are judged by tests, but stage.yaml names no sandbox") as caught:
        require_sandbox([question(DOUBLE)], None)
    assert caught.value.reason == "SandboxMissing"
    require_sandbox([Question("k", "k", "pool", "1+1=?", "2")], None)
    require_sandbox([question(DOUBLE)], blocks.Sandbox(url="http://sandbox:8000"))


async def against(answers: list[Any], patience: float = 60.0) -> tuple[Verdict, int]:
    """The verdict of a server that gives these answers one after the other, the last one for ever; its requests."""
    requests = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        answer = answers[min(requests, len(answers) - 1)]
        requests += 1
        head = await reader.readuntil(b"\r\n\r\n")
        size = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-len"))
        await reader.readexactly(size)
        if answer is not None:
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (answer.status, len(answer.body)))
            writer.write(answer.body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    tests = of_input_output(json.dumps(DOUBLE))
    assert isinstance(tests, UnitTests)
    config = blocks.Sandbox(url=f"http://127.0.0.1:{port}/", patience_seconds=patience)
    async with server, Sandbox(config, pause_seconds=0.001) as client:
        return await client.verdict(tests, GOOD), requests


PASSED = Raw(200, {"verdict": "Passed", "detail": "", "cases": []})


async def test_a_sandbox_that_is_busy_or_broken_for_a_while_is_waited_for() -> None:
    trouble = [Raw(503, ""), None, Raw(500, "no jail"), Raw(200, "<html>"), Raw(200, "[]"), Raw(200, {"verdict": 1})]
    verdict, requests = await against([*trouble, PASSED])
    assert (verdict.accepted, requests) == (True, 7)


async def test_a_sandbox_that_stays_away_is_temporary_and_rejects_nothing() -> None:
    with pytest.raises(Temporary, match=r"gives no verdicts .HTTP 500: no jail.") as caught:
        await against([Raw(500, "no jail")], patience=0.05)
    assert (caught.value.reason, caught.value.retry_after_seconds) == ("SandboxUnavailable", 60)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://user:secret@127.0.0.1:{nobody.getsockname()[1]}"
        config = blocks.Sandbox(url=url, patience_seconds=0.05)
        tests = of_input_output(json.dumps(DOUBLE))
        assert isinstance(tests, UnitTests)
        async with Sandbox(config, pause_seconds=0.001) as client:
            with pytest.raises(Temporary, match=r"the sandbox at 127.0.0.1:") as away:
                await client.verdict(tests, GOOD)
    assert "secret" not in away.value.message


async def test_what_is_no_sandbox_is_an_error_of_the_configuration() -> None:
    with pytest.raises(ConfigFault, match=r"sandbox.url is not a sandbox's: .* answers HTTP 404"):
        await against([Raw(404, "no such page")])
    with pytest.raises(ConfigFault, match=r"sandbox.url is not a sandbox's"):
        Sandbox(blocks.Sandbox(url="http://[::1"))


async def test_a_submission_that_the_sandbox_refuses_is_rejected_alone() -> None:
    verdict, requests = await against([Raw(413, "too large")])
    assert (verdict.reason, verdict.detail, requests) == ("VerifyFailed", "the sandbox cannot judge this: too large", 1)
