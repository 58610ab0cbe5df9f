"""This is NOT vLLM. It is a small fake of its OpenAI server for the tests of evaluate and serve, standard library only.

It takes the arguments of ``vllm serve`` and is put in vLLM's place by $DISTILLRUN_VLLM_COMMAND. What it does is written
in the model's folder, file fake.json:

loading     "answers" (default), "dies" or "never" becomes healthy
answers     "right" (default), "wrong", "words" (no number at all), "truncated", "separate" (thinking in its own field),
            "letters" (A to D, the sum's rest by 4), "two letters", "code" (responses by how a question begins)
dieAfter    ends with an error in its log at the completion after so many
holdAfter   completions after so many get no answer until the file `release` exists beside fake.json
garbage     the first so many completions get a body that is not JSON, -1: all of them
status      HTTP status of all completions, with an OpenAI error body
warmUpHolds true: also "1+1=?" is held until `release` exists

Every start, request and end is a line in requests.jsonl beside fake.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CONTEXT = 512


class Fake:
    """The state of one server."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.does: dict[str, Any] = json.loads((folder / "fake.json").read_text())
        self.lock = threading.Lock()
        self.completions = 0
        self.running = 0

    def note(self, event: str, **fields: Any) -> None:
        """A line in requests.jsonl."""
        with self.lock, (self.folder / "requests.jsonl").open("a") as file:
            file.write(json.dumps({"event": event, "pid": os.getpid(), "at": time.monotonic(), **fields}) + "\n")

    def complete(self, request: dict[str, Any]) -> tuple[int, bytes]:
        """Status and body of one completion."""
        with self.lock:
            self.completions += 1
            number = self.completions
            self.running += 1
        self.note("asked", request=request)
        try:
            return self._complete(request, number)
        finally:
            with self.lock:
                self.running -= 1

    def _complete(self, request: dict[str, Any], number: int) -> tuple[int, bytes]:
        question = request["messages"][-1]["content"]
        warm_up = question == "1+1=?"
        if warm_up and self.does.get("warmUpHolds"):
            self._hold()
        if "dieAfter" in self.does and number > self.does["dieAfter"]:
            print("(EngineCore pid=1) ERROR RuntimeError: the fake was told to die", flush=True)
            os._exit(3)
        if "holdAfter" in self.does and number > self.does["holdAfter"]:
            self._hold()
        if "status" in self.does:
            return self.does["status"], json.dumps({"error": {"message": "told to refuse", "code": 1}}).encode()
        if self.does.get("garbage") == -1 or number <= self.does.get("garbage", 0):
            return 200, b"<html>surely not JSON</html>"
        if len(question) > CONTEXT:
            text = f"This model's maximum context length is {CONTEXT} tokens. However, your prompt contains more."
            return 400, json.dumps({"error": {"message": text, "code": 400, "param": "input_tokens"}}).encode()
        if request["max_tokens"] > CONTEXT:
            text = f"max_tokens={request['max_tokens']} cannot be greater than max_model_len={CONTEXT}."
            return 400, json.dumps({"error": {"message": text, "code": 400, "param": "max_tokens"}}).encode()
        return 200, json.dumps(self._answer(question)).encode()

    def _hold(self) -> None:
        while not (self.folder / "release").exists():
            time.sleep(0.02)

    def _answer(self, question: str) -> dict[str, Any]:
        found = re.match(r"(\d+)\+(\d+)", question)
        total = int(found[1]) + int(found[2]) if found else 0
        kind = self.does.get("answers", "right")
        letter = "ABCD"[total % 4]
        response = {
            "wrong": rf"\boxed{{{total + 1}}}",
            "words": "I would rather not say.",
            "letters": f"Three of them are wrong.\n\nThe correct answer is ({letter}).",
            "two letters": f"The answer is {letter} or E.",
        }.get(kind, rf"\boxed{{{total}}}")
        if kind == "code":
            response = next(r for start, r in self.does["responses"].items() if question.startswith(start))
        message: dict[str, Any] = {"role": "assistant", "content": f"<think>\nadding\n</think>\n\n{response}"}
        if kind == "truncated":
            message["content"] = "<think>\nadding and add"
        if kind == "separate":
            message |= {"content": response, "reasoning": "adding"}
        finish = "length" if kind == "truncated" else "stop"
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 7}}


def handler(fake: Fake) -> type[BaseHTTPRequestHandler]:
    """The request handler of a fake."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/health":
                self._send(503 if fake.does.get("loading") == "never" else 200, b"")
            elif self.path == "/v1/models":
                self._send(200, json.dumps({"data": [{"id": fake.name, "max_model_len": CONTEXT}]}).encode())
            elif self.path == "/metrics":
                lines = [
                    f'vllm:num_requests_running{{engine="0"}} {fake.running}.0',
                    'vllm:num_requests_waiting{engine="0"} 0.0',
                    f'vllm:generation_tokens_total{{engine="0"}} {7 * fake.completions}.0',
                ]
                self._send(200, "\n".join(lines).encode())
            else:
                self._send(404, b"{}")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(*fake.complete(body))

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    return Handler


def main() -> int:
    """Serve until SIGTERM, then finish what runs."""
    parser = argparse.ArgumentParser(prog="fake_vllm (a fake for tests, not vLLM)")
    parser.add_argument("model", type=Path)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name", required=True)
    options, more = parser.parse_known_args()
    fake = Fake(options.model, options.served_model_name)
    fake.note("started", arguments=sys.argv[1:], more=more, offline=os.environ.get("HF_HUB_OFFLINE"))
    if fake.does.get("loading") == "dies":
        print("(EngineCore pid=1) ERROR ValueError: the weights are not what they seem")
        print("(APIServer pid=2) RuntimeError: Engine core initialization failed. See root cause above.")
        return 1
    server = ThreadingHTTPServer((options.host, options.port), handler(fake))
    server.daemon_threads = True

    def stop(*_: object) -> None:
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    print("this is a fake, not vLLM", flush=True)
    server.serve_forever()
    fake.note("ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
