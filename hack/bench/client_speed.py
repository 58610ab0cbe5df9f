"""How fast a teacher is asked, beside the plain `openai` client; prints a table and ends with a JSON line.

PYTHONPATH=operator:images python hack/bench/client_speed.py [requests]

A small HTTP server in another process answers at once. Each client asks it the same questions, 64 at a time, in turns:

- openai: AsyncOpenAI, nothing recorded;
- asked: our client alone, which tells bad answers from bad teachers, times and retries;
- recorded: with the journal, each answer on disk before the next question is asked;
- paced: with limits a minute and a day that it does not reach, and the journal.

Figures are of CPU time (user and system) of the asking process, so those of a busy machine are close to those of an
idle one; the best of three turns each. Target: at least 200 requests a second of one core, recorded.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import openai

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "images")]

from distillstages.common.artifacts import Output  # noqa: E402
from distillstages.common.blocks import Generate  # noqa: E402
from distillstages.common.blocks import Teacher as TeacherConfig  # noqa: E402
from distillstages.curate.journal import Journal  # noqa: E402
from distillstages.curate.pace import Pacer  # noqa: E402
from distillstages.curate.teacher import Teacher  # noqa: E402

CONCURRENCY = 64
TURNS = 3
TARGET = 200
ANSWER = {
    "id": "chatcmpl-bench",
    "object": "chat.completion",
    "created": 1,
    "model": "bench",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "The sum is 3.", "reasoning_content": "Step by step. " * 300},
        }
    ],
    "usage": {"prompt_tokens": 20, "completion_tokens": 900, "total_tokens": 920},
}
BODY = json.dumps(ANSWER).encode()
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Server(asyncio.Protocol):
    """As much of HTTP/1.1 as two clients of known manners need."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.data = b""

    def data_received(self, data: bytes) -> None:
        """A part of a request, or several."""
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[:end].lower()
            length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            if len(self.data) < end + 4 + length:
                return
            self.data = self.data[end + 4 + length :]
            self.transport.write(REPLY)


def serve(ready: Connection) -> None:
    """The server's process, until it is terminated."""

    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())


Ask = Callable[[int], Awaitable[None]]


async def everything(ask: Ask, requests: int) -> tuple[float, float]:
    """Ask them all; (seconds of CPU, seconds)."""
    numbers: Iterator[int] = iter(range(requests))

    async def one_after_the_other() -> None:
        for number in numbers:
            await ask(number)

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(CONCURRENCY)))
    return time.process_time() - cpu, time.perf_counter() - wall


def question(number: int) -> str:
    """A question of ordinary length."""
    return f"What is {number} + {number + 1}? " + "Reason step by step. " * 20


async def plain(url: str, requests: int) -> tuple[float, float]:
    """The openai client."""
    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:

        async def ask(number: int) -> None:
            messages = [{"role": "user", "content": question(number)}]
            reply = await client.chat.completions.create(model="bench", messages=messages, max_tokens=16384)  # type: ignore[call-overload]
            assert reply.usage.completion_tokens == 900

        return await everything(ask, requests)


async def ours(url: str, requests: int, *, recorded: bool, paced: bool) -> tuple[float, float]:
    """Our client, with its journal or without."""
    limits = {"requests_per_minute": 10**6, "requests_per_day": 10**8, "tokens_per_minute": 10**9} if paced else {}
    config = TeacherConfig(name="t", url=url, model="bench", max_concurrency=CONCURRENCY, **limits)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT))
        output = Output(Path(folder).as_uri(), stage="curate", fingerprint="0" * 64, attempt=1, run="r", origin="n/r")
        journal = await Journal.open(output)
        stack.push_async_callback(journal.close)
        pacer = Pacer(config, journal) if paced else None
        teacher = await stack.enter_async_context(Teacher(config, Generate(), api_key=None, pacer=pacer))

        async def ask(number: int) -> None:
            answer = await teacher.ask(str(number), 0, question(number))
            assert answer.completion_tokens == 900
            if recorded:
                await journal.append(answer)

        return await everything(ask, requests)


def main(requests: int) -> int:
    """Measure; exit code 1 below the target."""
    receiver, sender = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(sender,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{receiver.recv()}/v1"
    clients: dict[str, Callable[[], Coroutine[Any, Any, tuple[float, float]]]] = {
        "openai": lambda: plain(url, requests),
        "asked": lambda: ours(url, requests, recorded=False, paced=False),
        "recorded": lambda: ours(url, requests, recorded=True, paced=False),
        "paced": lambda: ours(url, requests, recorded=True, paced=True),
    }
    found: dict[str, tuple[float, float]] = {}
    try:
        for _ in range(TURNS):
            for name, client in clients.items():
                cpu, wall = asyncio.run(client())
                best = found.get(name, (cpu, wall))
                found[name] = (min(cpu, best[0]), min(wall, best[1]))
    finally:
        server.terminate()
        server.join()
    base = found["openai"][0]
    print(f"{requests} requests, {CONCURRENCY} at a time; requests a second of CPU time | of time | to openai's")
    for name, (cpu, wall) in found.items():
        print(f"{name:10} {requests / cpu:8.0f} {requests / wall:8.0f} {base / cpu:8.2f}")
    line = {name: round(requests / cpu) for name, (cpu, _) in found.items()}
    reached = line["recorded"] >= TARGET
    print(json.dumps({"bench": "client", "target": TARGET, "reached": reached, "requestsPerCpuSecond": line}))
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
