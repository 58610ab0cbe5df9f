"""A man in the middle between operators and an API server. Test code: it counts, breaks, holds back and tampers.

The operator speaks plain HTTP to it and its own token travels on, so the API server's audit log still says who asked.
What happens to a request is decided by `judge`, what happens to the lines of a watch by `tamper`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import aiohttp
from aiohttp import web

WRITES = {"create", "apply", "patch", "update", "delete"}
HOP_BY_HOP = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "content-encoding"}
LONGEST_LINE = 1 << 22


@dataclass(frozen=True)
class Request:
    """One request of an operator, in the API's words."""

    verb: str
    resource: str
    """Plural, with the subresource: `distillruns/status`."""
    name: str
    number: int
    """Which write it is, from 1; 0 for reads and for whatever concerns the Lease, which comes by the clock."""
    agent: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource} {self.name}".rstrip()


@dataclass(frozen=True)
class Refuse:
    """An answer with an error, which the API server never hears of."""

    code: int
    reason: str
    retry_after: int | None = None


@dataclass(frozen=True)
class Hang:
    """No answer; the request goes nowhere."""


@dataclass(frozen=True)
class Reset:
    """The connection breaks; the request goes nowhere."""


@dataclass(frozen=True)
class LoseAnswer:
    """The request is carried out and the connection breaks before the answer."""


@dataclass(frozen=True)
class Stop:
    """The operator is stopped by SIGKILL, before the request has reached the API server or right after."""

    after: bool


@dataclass(frozen=True)
class Hold:
    """The request is on its way until somebody lets it go on, whether or not the one who asked still waits."""

    until: asyncio.Event


Fault = Refuse | Hang | Reset | LoseAnswer | Stop | Hold

SILENCE = "silence"
"""What `tamper` returns to say nothing more on this watch, without ending it."""
END = "end"
"""What `tamper` returns to end this watch."""
Tampered = Iterable[bytes | float | str]
"""Lines to pass on, seconds to wait, SILENCE or END."""


def expired() -> bytes:
    """The line with which the API server tells a watch that its resourceVersion is too old."""
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410}
    return json.dumps({"type": "ERROR", "object": {**status, "message": "too old resource version"}}).encode() + b"\n"


@dataclass
class Proxy:
    """Listens on a port of its own in front of one API server."""

    upstream: str
    authority: str
    """PEM of the API server's certificate authority."""
    judge: Callable[[Request], Fault | None] = lambda _: None
    tamper: Callable[[Request, bytes], Tampered] = lambda _, line: (line,)
    kill: Callable[[Request], None] = lambda _: None
    """Sends SIGKILL to the operator that made the request."""
    seen: list[Request] = field(default_factory=list)
    """Every request but watches' lines, in the order of arrival."""
    answers: dict[int, int] = field(default_factory=dict)
    """By the number of a write: the code with which the API server answered."""
    port: int = 0
    _writes: int = 0

    async def start(self) -> None:
        """Listen."""
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=self.authority), limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, read_bufsize=LONGEST_LINE, auto_decompress=False
        )
        application = web.Application(client_max_size=LONGEST_LINE)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """End every connection."""
        await self._runner.cleanup()
        await self._session.close()

    def writes(self) -> list[Request]:
        """The numbered writes so far."""
        return [request for request in self.seen if request.number]

    async def _handle(self, incoming: web.Request) -> web.StreamResponse:
        body = await incoming.read()
        request = self._classify(incoming)
        self.seen.append(request)
        fault = self.judge(request)
        match fault:
            case Refuse():
                return _refusal(fault, request)
            case Hang():
                await asyncio.sleep(60)
                return _reset(incoming)
            case Reset():
                return _reset(incoming)
            case Stop(after=False):
                self.kill(request)
                return _reset(incoming)
            case Hold():
                await fault.until.wait()
        headers = {name: value for name, value in incoming.headers.items() if name.lower() not in HOP_BY_HOP}
        headers["Accept-Encoding"] = "identity"
        url = self.upstream + incoming.raw_path
        try:
            async with self._session.request(incoming.method, _raw(url), data=body or None, headers=headers) as answer:
                if request.verb == "watch" and answer.status == 200:
                    return await self._watch(incoming, request, answer)
                data = await answer.read()
                self.answers[request.number] = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return _reset(incoming)
        if isinstance(fault, Stop):
            self.kill(request)
        if isinstance(fault, Stop | LoseAnswer):
            return _reset(incoming)
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
        return web.Response(body=data, status=answer.status, headers=kept)

    async def _watch(
        self, incoming: web.Request, request: Request, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(incoming)
        async for line in answer.content:
            for act in self.tamper(request, line):
                if isinstance(act, bytes):
                    await response.write(act)
                elif isinstance(act, float):
                    await asyncio.sleep(act)
                elif act == END:
                    return response
                else:
                    await asyncio.Event().wait()
        return response

    def _classify(self, incoming: web.Request) -> Request:
        parts = incoming.path.strip("/").split("/")
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            rest = rest[2:]
        plural, name, subresource = (*rest, "", "", "")[:3]
        query = parse_qs(incoming.query_string)
        match incoming.method:
            case "GET":
                verb = "watch" if query.get("watch") in (["true"], ["1"]) else "get" if name else "list"
            case "PATCH":
                verb = "apply" if "apply-patch" in incoming.headers.get("Content-Type", "") else "patch"
            case method:
                verb = {"POST": "create", "PUT": "update", "DELETE": "delete"}.get(method, method.lower())
        number = 0
        if verb in WRITES and plural != "leases":
            self._writes += 1
            number = self._writes
        resource = f"{plural}/{subresource}" if subresource else plural
        return Request(verb, resource, name, number, incoming.headers.get("User-Agent", ""))


def _raw(url: str) -> Any:
    from yarl import URL

    return URL(url, encoded=True)


def _reset(incoming: web.Request) -> web.StreamResponse:
    """End the connection as a crash of the other side would: no answer, no polite close."""
    if incoming.transport is not None:
        incoming.transport.abort()
    return web.Response()


def _refusal(fault: Refuse, request: Request) -> web.Response:
    status: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": fault.reason,
        "message": f"injected: {request}",
        "code": fault.code,
    }
    headers = {}
    if fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
        status["details"] = {"retryAfterSeconds": fault.retry_after}
    return web.json_response(status, status=fault.code, headers=headers)
