"""The judge over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from distillstages.sandbox import requests
from distillstages.sandbox.service import LARGEST_BODY, Server

CHECK = {"tests": "def check(candidate):\n    assert candidate(2) == 4"}
GOOD = {"code": "def double(x): return 2 * x", "cases": [CHECK], "entryPoint": "double"}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = Server(host="127.0.0.1", port=0, slots=2)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server.port
    server.stop()
    thread.join()


def post(port: int, request: Any, path: str = "/judge") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", path, request if isinstance(request, bytes) else json.dumps(request))
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, json.loads(body) if answer.status == 200 else body.decode()


def test_a_submission_of_each_kind_is_judged(port: int) -> None:
    status, report = post(port, GOOD)
    assert (status, report["verdict"], len(report["cases"])) == (200, "Passed", 1)
    calls = {**GOOD, "cases": [{"arguments": [2], "expected": 4}, {"arguments": [2], "expected": 5}]}
    assert [c["verdict"] for c in post(port, calls)[1]["cases"]] == ["Passed", "WrongOutput"]
    several = {**GOOD, "cases": [{"arguments": [2], "expected": [4], "alternatives": [3, 4]}]}
    assert post(port, several)[1]["verdict"] == "Passed"
    program = {"code": "print(int(input()) * 2)", "cases": [{"stdin": "2", "stdout": "4"}]}
    assert post(port, program)[1]["verdict"] == "Passed"


def test_hostile_code_disturbs_no_neighbour_and_not_the_service(port: int) -> None:
    limits = {"cpuSeconds": 0.5, "memoryMiB": 256}
    hostile = [
        {**GOOD, "code": code, "limits": limits}
        for code in (
            "import os\nwhile True: os.fork()",
            "x = []\nwhile True: x.append(bytearray(1 << 20))",
            f"import os\nos.kill({os.getpid()}, 9)",
            f"import socket\nsocket.create_connection(('127.0.0.1', {port}))",
        )
    ]
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda request: post(port, request), [r for h in hostile for r in (h, GOOD)]))
    assert [report["verdict"] for _, report in reports[::2]] == ["Forbidden", "MemoryLimit", "Forbidden", "Forbidden"]
    assert {report["verdict"] for _, report in reports[1::2]} == {"Passed"}


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        ({**GOOD, "cases": []}, "cases: expected a list of 1 to 1000"),
        ({**GOOD, "cases": [{"stdin": "1"}]}, "cases[0]: expected stdin and stdout"),
        (
            {**GOOD, "cases": [{"arguments": [1], "expected": 2, "alternatives": 3}]},
            "cases[0].alternatives: expect",
        ),
        ({**GOOD, "cases": [CHECK, {"stdin": "", "stdout": ""}]}, "all must be of one kind"),
        ({**GOOD, "code": 5}, "code: expected a string"),
        ({**GOOD, "code": "\ud800"}, "code: half a surrogate pair"),
        ({**GOOD, "entryPoint": "a.b"}, "entryPoint: expected a function's name, found 'a.b'"),
        ({**GOOD, "limits": {"cpuSeconds": 1e9}}, "limits.cpuSeconds: expected a number from 0.1 to 60"),
        ({**GOOD, "limits": {"memoryMiB": float("nan")}}, "limits.memoryMiB"),
        ({**GOOD, "network": True}, "no field 'network'"),
    ],
)
def test_a_request_that_is_none_is_refused_with_a_sentence(port: int, request_: Any, sentence: str) -> None:
    status, said = post(port, request_)
    assert status == 400
    assert sentence in said


def test_other_paths_and_bodies_without_end_are_refused(port: int) -> None:
    assert post(port, GOOD, "/other")[0] == 404
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/judge", b"", {"Content-Length": str(LARGEST_BODY + 1)})
    assert connection.getresponse().status == 413
    connection.close()
    connection.request("GET", "/healthz")
    assert connection.getresponse().read() == b"ok\n"
    connection.close()


def test_a_case_that_code_can_be_made_of_keeps_what_it_says() -> None:
    submission = requests.read(json.dumps({**GOOD, "limits": {"memoryMiB": 100}, "stopAtFailure": False}).encode())
    assert submission.limits.memory_bytes == 100 << 20
    assert submission.limits.cpu_seconds == 5
    assert not submission.stop_at_failure


def test_the_program_serves_until_it_is_asked_to_stop() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "distillstages.sandbox", "--host", "127.0.0.1", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout
        line = process.stdout.readline()
        assert post(int(line.rsplit(" ", 1)[1]), GOOD)[1]["verdict"] == "Passed"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
