"""One question to the served student, through `kubectl port-forward`."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from sample import NAMESPACE, RUN
from steps import DemoError, Step
from target import Target

QUESTION = "762+459=?"
_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")
SECONDS = 60.0


@dataclass(frozen=True)
class Chat:
    """What was asked and answered."""

    question: str
    thinking: str
    answer: str


def ask(target: Target, step: Step, question: str = QUESTION) -> Chat:
    """Asks the student. Raises DemoError if nobody answers."""
    endpoint = json.loads(
        step.run(
            target.kube("-n", NAMESPACE, "get", "distillrun", RUN, "-o", "jsonpath={.status.endpoint}"),
            env=target.environment,
        )
        or "{}"
    )
    if not endpoint:
        raise DemoError(
            f"the run {RUN} has no endpoint in its status: kubectl -n {NAMESPACE} describe distillrun {RUN}"
        )
    host, _, port = endpoint["url"].removeprefix("http://").partition("/")[0].partition(":")
    command = target.kube("-n", NAMESPACE, "port-forward", f"service/{host.split('.')[0]}", f":{port or 80}")
    environment = {**os.environ, **target.environment}
    with step.log.open("a", encoding="utf-8") as sink:
        forward = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=sink, text=True)
        try:
            reply = _post(_port(forward), question, endpoint["model"])
        finally:
            forward.terminate()
            forward.wait()
    message = reply["choices"][0]["message"]
    thinking = message.get("reasoning_content") or message.get("reasoning") or ""
    return Chat(question, thinking, message.get("content") or "")


def _port(forward: subprocess.Popen[str]) -> int:
    assert forward.stdout is not None
    for line in forward.stdout:
        if match := _FORWARDING.search(line):
            return int(match[1])
    raise DemoError("kubectl port-forward ended before it began to forward")


def _post(port: int, question: str, model: str) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 100, "temperature": 0}
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        data = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise DemoError(f"the student did not answer within {time.monotonic() - began:.0f} s: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise DemoError(f"the student answered {response.status}: {data.decode(errors='replace')[:500]}")
    reply: dict[str, Any] = json.loads(data)
    return reply
