"""The client retries what may succeed, gives up on what will not, and asks the guard before every write that leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from distillrun.cluster import client as module
from distillrun.cluster.client import Client
from distillrun.cluster.errors import ApiError
from distillrun.cluster.resources import JOB, POD
from tests.unit.cluster.servers import Loader, connection, serving

Answer = Callable[[web.Request], web.StreamResponse]


def status(code: int, reason: str, message: str = "no", **details: Any) -> web.Response:
    return web.json_response({"kind": "Status", "reason": reason, "message": message, "details": details}, status=code)


@asynccontextmanager
async def meeting(*answers: web.Response | Answer, **options: Any) -> AsyncIterator[tuple[Client, list[web.Request]]]:
    """A client and the requests that reach the server, which gives these answers in order, the last one for ever."""
    requests: list[web.Request] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        requests.append(request)
        answer = answers[min(len(requests), len(answers)) - 1]
        if isinstance(answer, web.Response):
            return web.Response(body=answer.body, status=answer.status, headers=answer.headers)
        return answer(request)

    async with serving(handler) as port:
        client = Client(connection(Loader(port)), user_agent="test", **options)
        try:
            yield client, requests
        finally:
            await client.close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.002)


@pytest.mark.parametrize("code", [429, 500, 503])
async def test_a_request_that_may_succeed_in_a_moment_is_made_again(code: int) -> None:
    async with meeting(status(code, "TooBusy"), web.json_response({"kind": "Job"})) as (client, requests):
        assert await client.get(JOB, "team", "a") == {"kind": "Job"}
    assert len(requests) == 2


async def test_the_number_of_tries_is_bounded() -> None:
    async with meeting(status(500, "InternalError")) as (client, requests):
        with pytest.raises(ApiError) as caught:
            await client.get(JOB, "team", "a")
    assert caught.value.code == 500
    assert len(requests) == module.ATTEMPTS


@pytest.mark.parametrize("code", [400, 403, 404, 409, 422])
async def test_a_no_is_a_no(code: int) -> None:
    async with meeting(status(code, "Refused", "because")) as (client, requests):
        with pytest.raises(ApiError, match="because"):
            await client.create(JOB, "team", {"metadata": {}})
    assert len(requests) == 1


async def test_the_guard_is_asked_before_each_try_of_a_write_and_its_no_sends_nothing() -> None:
    calls = 0

    def guard() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise PermissionError("lost the lease meanwhile")

    async with meeting(status(500, "InternalError"), guard=guard) as (client, requests):
        await _swallow(client.get(JOB, "team", "a", retry=False))
        with pytest.raises(PermissionError):
            await client.create(JOB, "team", {"metadata": {}})
    assert [request.method for request in requests] == ["GET", "POST"]


async def _swallow(awaitable: Any) -> None:
    with pytest.raises(ApiError):
        await awaitable


async def test_a_rotated_token_is_read_again_after_a_401() -> None:
    def judge(request: web.Request) -> web.StreamResponse:
        if request.headers["Authorization"] == "Bearer second":
            return web.json_response({"kind": "Job"})
        return status(401, "Unauthorized")

    async with meeting(judge) as (client, requests):
        await _swallow(client.get(JOB, "team", "a"))
        client.connection.configuration.token = "second"
        assert await client.get(JOB, "team", "a") == {"kind": "Job"}
    assert len(requests) == 4


async def test_nobody_there_is_an_error_with_code_0() -> None:
    async with meeting(web.Response()) as (client, _):
        pass
    with pytest.raises(ApiError) as caught:
        await client.get(JOB, "team", "a", retry=False)
    assert (caught.value.code, caught.value.retryable) == (0, True)


async def test_an_answer_that_is_no_json_is_an_error_that_shows_it() -> None:
    async with meeting(web.Response(text="<html>proxy</html>")) as (client, _):
        with pytest.raises(ApiError, match="proxy"):
            await client.get(JOB, "team", "a", retry=False)


async def test_an_answer_that_is_no_text_is_an_error_too() -> None:
    garbled = web.Response(body=b"\x1f\x8b\xff", content_type="application/json")
    async with meeting(garbled) as (client, _):
        with pytest.raises(ApiError, match="not a JSON object"):
            await client.get(JOB, "team", "j", retry=False)


async def test_a_list_is_read_page_by_page_with_its_selector() -> None:
    first = web.json_response({"items": [{"a": 1}], "metadata": {"resourceVersion": "7", "continue": "next"}})
    second = web.json_response({"items": [{"a": 2}], "metadata": {"resourceVersion": "7"}})
    async with meeting(first, second) as (client, requests):
        pages = [page async for page in client.list(POD, None, labels="distillrun.dev/run", metadata_only=True)]
    assert [page.items for page in pages] == [[{"a": 1}], [{"a": 2}]]
    assert requests[0].path == "/api/v1/pods"
    assert requests[1].query["continue"] == "next"
    assert {request.query["labelSelector"] for request in requests} == {"distillrun.dev/run"}
    assert "PartialObjectMetadataList" in requests[0].headers["Accept"]


async def test_a_delete_names_the_uid_and_leaves_the_rest_to_the_background() -> None:
    bodies: list[Any] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        return web.json_response({})

    async with serving(handler) as port:
        client = Client(connection(Loader(port)), user_agent="test")
        await client.delete(JOB, "team", "a", "uid-a")
        await client.close()
    assert bodies == [{"propagationPolicy": "Background", "preconditions": {"uid": "uid-a"}}]


async def test_every_answer_is_counted_by_verb_kind_and_code() -> None:
    seen: list[tuple[str, str, int]] = []
    answers = (status(503, "Busy"), web.json_response({}))
    async with meeting(*answers, observe=lambda *each: seen.append(each)) as (client, _):
        await client.create(JOB, "team", {"metadata": {}})
    assert seen == [("create", "Job", 503), ("create", "Job", 200)]


def test_retry_after_is_read_from_the_header_or_the_details() -> None:
    from distillrun.cluster.errors import from_answer

    assert from_answer(429, {}, {"Retry-After": "3"}).retry_after == 3
    assert from_answer(429, {"details": {"retryAfterSeconds": 4}}, {}).retry_after == 4
    assert from_answer(503, "busy", {"Retry-After": "soon"}).retry_after is None
