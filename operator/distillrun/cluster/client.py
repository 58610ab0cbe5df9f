"""A thin asynchronous REST client: dicts in, dicts out, one exception (ApiError).

Why not the kubernetes package's own client: it is synchronous, and builds a typed model of every object it sees.
Only its configuration loaders are used (connection.py).
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from distillrun.cluster.connection import Connection
from distillrun.cluster.errors import ApiError, from_answer
from distillrun.cluster.resources import Resource

FIELD_MANAGER = "distillrun-operator"
ATTEMPTS = 5
"""Tries of one request, the first included."""
FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0
"""Seconds between tries: doubled each time, with jitter; Retry-After wins up to the longest wait."""
REQUEST_SECONDS = 15.0
PAGE = 500

METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
READS = ("get", "list")

Json = dict[str, Any]


@dataclass(frozen=True)
class Page:
    """One page of a list: its items as plain dicts, and the resourceVersion of the whole list."""

    items: list[Json]
    resource_version: str


class Client:
    """Requests to one API server.

    `guard` is called right before every write leaves, retries included, and raises to stop it (lease.check).
    `observe` is told (verb, kind, code) of every answer; code 0 stands for no answer.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        user_agent: str,
        guard: Callable[[], None] | None = None,
        observe: Callable[[str, str, int], None] | None = None,
    ) -> None:
        self.connection = connection
        self.guard = guard
        self.observe = observe
        self.user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End the connections. The client can be used again afterwards."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, resource: Resource, namespace: str, name: str, *, retry: bool = True) -> Json:
        """The object. Raises ApiError (not_found when there is none)."""
        return await self._request("get", resource, resource.path(namespace, name), retry=retry)

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        metadata_only: bool = False,
        page: int = PAGE,
    ) -> AsyncIterator[Page]:
        """Pages of the objects in a namespace, or in the whole cluster, that match the selectors.

        With `metadata_only` the items are PartialObjectMetadata: names, UIDs, labels and versions, a fraction of the
        bytes.
        """
        accept = METADATA_LIST if metadata_only else "application/json"
        query = {"limit": str(page)}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        while True:
            body = await self._request("list", resource, resource.path(namespace), query=query, accept=accept)
            metadata = body.get("metadata") or {}
            yield Page(body.get("items") or [], str(metadata.get("resourceVersion") or ""))
            if not metadata.get("continue"):
                return
            query["continue"] = str(metadata["continue"])

    async def create(self, resource: Resource, namespace: str, body: Json, *, retry: bool = True) -> Json:
        """POST. Raises ApiError; `already_exists` may follow from a first try whose answer was lost."""
        query = {"fieldManager": FIELD_MANAGER}
        return await self._request("create", resource, resource.path(namespace), query=query, body=body, retry=retry)

    async def apply(self, resource: Resource, namespace: str, body: Json, *, force: bool = False) -> Json:
        """Server-side apply. `force` takes over fields that others manage: only for objects known to be ours."""
        path = resource.path(namespace, body["metadata"]["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"}
        return await self._request("apply", resource, path, query=query, body=body, content=APPLY_PATCH)

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Json,
        *,
        subresource: str | None = None,
        retry: bool = True,
    ) -> Json:
        """JSON merge patch. With metadata.resourceVersion in the body a stale write is a `conflict`."""
        path = resource.path(namespace, name, subresource)
        query = {"fieldManager": FIELD_MANAGER}
        return await self._request("patch", resource, path, query=query, body=body, content=MERGE_PATCH, retry=retry)

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> Json:
        """Delete the object of that UID and, in the background, what it owns. Another UID is a `conflict`."""
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        return await self._request("delete", resource, resource.path(namespace, name), body=body)

    async def _request(
        self,
        verb: str,
        resource: Resource,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content: str = "application/json",
        accept: str = "application/json",
        retry: bool = True,
    ) -> Json:
        renewed = False
        wait = FIRST_WAIT
        attempts = ATTEMPTS if retry else 1
        for attempt in range(1, attempts + 1):
            try:
                return await self._once(verb, resource, path, query, body, content, accept, renew=renewed)
            except ApiError as error:
                if error.code == 401 and not renewed:
                    renewed = True  # the token may have been rotated under us: ask the loader once
                    continue
                if not error.retryable or attempt == attempts:
                    raise
                pause = min(max(error.retry_after or 0.0, wait), LONGEST_WAIT)
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))
            wait = min(wait * 2, LONGEST_WAIT)
        raise AssertionError("the last attempt returns or raises")

    async def _once(
        self,
        verb: str,
        resource: Resource,
        path: str,
        query: Mapping[str, str] | None,
        body: Json | None,
        content: str,
        accept: str,
        renew: bool,
    ) -> Json:
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = content
        authorization = await self.connection.authorization(renew)
        if authorization:
            headers["Authorization"] = authorization
        session = self._ensure_session()
        data = json.dumps(body).encode() if body is not None else None
        if verb not in READS and self.guard is not None:
            self.guard()
        code = 0
        try:
            async with session.request(
                METHODS[verb],
                self.connection.host + path,
                params=query,
                data=data,
                headers=headers,
                proxy=self.connection.proxy,
                server_hostname=self.connection.server_hostname,
            ) as answer:
                code = answer.status
                text = await answer.text(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            code = 0
            raise ApiError(0, type(error).__name__, f"{verb} {path}: {error}") from error
        finally:
            if self.observe is not None:
                self.observe(verb, resource.kind, code)
        parsed = _parse(text)
        if code >= 400:
            raise from_answer(code, parsed, answer.headers)
        if not isinstance(parsed, dict):
            raise ApiError(0, "NotJson", f"{verb} {path}: the answer is not a JSON object: {text[:200]!r}")
        return parsed

    def _ensure_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self.connection.ssl, limit=64, keepalive_timeout=60),
                timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS, connect=5),
                headers={"User-Agent": self.user_agent},
                auto_decompress=True,
            )
        return self._session


METHODS = {"get": "GET", "list": "GET", "create": "POST", "apply": "PATCH", "patch": "PATCH", "delete": "DELETE"}


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
