"""A small HTTP/1.1 server over asyncio streams: enough for JSON requests with a Content-Length, and nothing more.

Standard library only, so that it runs in any of our images. Connections are kept alive; requests of one connection
are answered one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

LARGEST_HEAD = 16 * 1024
"""Bytes of a request's line and headers, at most."""

LARGEST_BODY = 1024 * 1024
"""Bytes of a request's body, at most."""


@dataclass(frozen=True)
class Request:
    """One request: method in capitals, path without query, header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    """One response with a JSON body. ``hang`` (seconds) instead keeps silent that long, or until the client leaves."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: float | None = None


Handler = Callable[[Request], Awaitable[Response]]


class _Refused(Exception):
    """A request that is not read to its end; the connection is closed after the response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def serve(handler: Handler, host: str, port: int) -> asyncio.Server:
    """Starts to listen; port 0 takes a free one. The caller closes the server. Raises OSError if it cannot listen."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # A client that leaves in the middle of anything is no event here.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await _converse(handler, reader, writer)
        finally:
            writer.close()

    return await asyncio.start_server(connected, host, port, limit=LARGEST_HEAD, backlog=1024)


async def _converse(handler: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        try:
            request = await _read(reader)
        except _Refused as refusal:
            writer.write(_encode(Response(refusal.status, {"error": {"message": str(refusal)}}), keep=False))
            await writer.drain()
            return
        response = await handler(request)
        if response.hang is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(reader.read(1), response.hang)  # returns when the client closes
            return
        keep = request.headers.get("connection", "").lower() != "close"
        writer.write(_encode(response, keep))
        await writer.drain()
        if not keep:
            return


async def _read(reader: asyncio.StreamReader) -> Request:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"headers over {LARGEST_HEAD} bytes") from None
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise _Refused(HTTPStatus.BAD_REQUEST, f"not an HTTP/1.1 request line: {first[:80]!r}")
    headers = {}
    for line in filter(None, lines):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if "transfer-encoding" in headers:
        raise _Refused(HTTPStatus.LENGTH_REQUIRED, "chunked bodies are not read here: send a Content-Length")
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise _Refused(HTTPStatus.BAD_REQUEST, f"Content-Length is not a number: {length[:20]!r}")
    if int(length) > LARGEST_BODY:
        raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body of {length} bytes, at most {LARGEST_BODY}")
    body = await reader.readexactly(int(length))
    return Request(words[0].upper(), words[1].partition("?")[0], headers, body)


def _encode(response: Response, keep: bool) -> bytes:
    body = json.dumps(response.body, ensure_ascii=False).encode()
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "keep-alive" if keep else "close",
        **response.headers,
    }
    head = f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n"
    return (head + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n").encode() + body
