"""A model of an API server in memory: objects with versions, watch events nobody has read yet, errors on demand.

It has the methods of `distillrun.cluster.client.Client`, so that the operator's own passes run on it unchanged.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from distillrun.cluster.client import Page
from distillrun.cluster.errors import ApiError
from distillrun.cluster.resources import Resource
from distillrun.plan.clock import rfc3339

Json = dict[str, Any]
Id = tuple[str, str, str]
"""(kind, namespace, name)."""


class Crash(BaseException):
    """The operator process is no more. No `except Exception` outlives it."""


@dataclass
class ModelServer:
    """All objects, and who is told of their changes. A stored body never changes: a change is another body."""

    clock: Callable[[], datetime]
    objects: dict[Id, Json] = field(default_factory=dict)
    watchers: list[Callable[[str, str, Json], None]] = field(default_factory=list)
    """Called with (kind, event type, body) of every change."""
    created: Counter[Id] = field(default_factory=Counter)
    """How often an object was created under each name."""
    _versions: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def put(self, body: Json) -> Json:
        """Store an object, new or changed, with a version of its own."""
        ident = identify(body)
        new = ident not in self.objects
        meta = body["metadata"]
        version = next(self._versions)
        meta["resourceVersion"] = str(version)
        if new:
            meta.setdefault("uid", f"uid-{version}")
            meta.setdefault("creationTimestamp", rfc3339(self.clock()))
            meta.setdefault("generation", 1)
            self.created[ident] += 1
        self.objects[ident] = body
        self._tell("ADDED" if new else "MODIFIED", body)
        return body

    def remove(self, ident: Id) -> None:
        """Delete an object at once and, as the garbage collector would, what it controls."""
        body = self.objects.pop(ident)
        body = body | {"metadata": body["metadata"] | {"resourceVersion": str(next(self._versions))}}
        self._tell("DELETED", body)
        uid = body["metadata"]["uid"]
        for other in [key for key, each in self.objects.items() if _owned(each, uid)]:
            if other in self.objects:
                self.remove(other)

    def of_kind(self, kind: str) -> list[Json]:
        """The objects of a kind as they are stored: to change one, `put` a changed copy."""
        return [body for (each, _, _), body in self.objects.items() if each == kind]

    @property
    def version(self) -> str:
        """The resourceVersion of a list now."""
        return str(next(self._versions))

    def _tell(self, event: str, body: Json) -> None:
        for watcher in self.watchers:
            watcher(body["kind"], event, body)


@dataclass
class ModelClient:
    """What one operator asks of the model server, and what goes wrong with its next writes."""

    server: ModelServer
    troubles: deque[str] = field(default_factory=deque)
    """For each of the next writes: "" or one of refuse, conflict, lose, crash-before, crash-after."""

    async def get(self, resource: Resource, namespace: str, name: str, *, retry: bool = True) -> Json:
        """The object. Raises ApiError 404."""
        return self._found((resource.kind, namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        metadata_only: bool = False,
        page: int = 500,
    ) -> AsyncIterator[Page]:
        """One page of all that matches; the model has no Kubernetes Events, the only kind listed by fields."""
        items = [body for body in self.server.of_kind(resource.kind) if _matches(body, labels) and not fields]
        yield Page(items, self.server.version)

    async def create(self, resource: Resource, namespace: str, body: Json, *, retry: bool = True) -> Json:
        """POST."""
        return self._write(lambda: self._create(resource, namespace, body))

    async def apply(self, resource: Resource, namespace: str, body: Json, *, force: bool = False) -> Json:
        """Server-side apply: spec, data, labels and annotations become what was sent."""
        return self._write(lambda: self._apply(resource, namespace, body))

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
        """Merge patch of a status with its preconditions."""
        return self._write(lambda: self._patch((resource.kind, namespace, name), body))

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> Json:
        """Delete with the UID as precondition."""
        return self._write(lambda: self._delete((resource.kind, namespace, name), uid))

    def _write(self, carry_out: Callable[[], Json]) -> Json:
        trouble = self.troubles.popleft() if self.troubles else ""
        match trouble:
            case "refuse":
                raise ApiError(503, "ServiceUnavailable", "injected")
            case "conflict":
                raise ApiError(409, "Conflict", "injected")
            case "crash-before":
                raise Crash
        answer = carry_out()
        match trouble:
            case "lose":
                raise ApiError(0, "ServerDisconnectedError", "injected")
            case "crash-after":
                raise Crash
        return answer

    def _found(self, ident: Id) -> Json:
        if ident not in self.server.objects:
            raise ApiError(404, "NotFound", f"{ident} not found")
        return self.server.objects[ident]

    def _create(self, resource: Resource, namespace: str, body: Json) -> Json:
        body = copy.deepcopy({"apiVersion": resource.api_version, "kind": resource.kind, **body})
        if resource.kind == "Event":
            return body
        body["metadata"]["namespace"] = namespace
        if identify(body) in self.server.objects:
            raise ApiError(409, "AlreadyExists", f"{identify(body)} already exists")
        return self.server.put(body)

    def _apply(self, resource: Resource, namespace: str, body: Json) -> Json:
        ident = (resource.kind, namespace, body["metadata"]["name"])
        if ident not in self.server.objects:
            return self._create(resource, namespace, body)
        old = self.server.objects[ident]
        _check(old, body["metadata"])
        new = copy.deepcopy(old)
        new.update({key: copy.deepcopy(value) for key, value in body.items() if key != "metadata"})
        for key in ("labels", "annotations", "ownerReferences"):
            if key in body["metadata"]:
                new["metadata"][key] = copy.deepcopy(body["metadata"][key])
        if new == old:
            return old
        if new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] += 1
        return self.server.put(new)

    def _patch(self, ident: Id, body: Json) -> Json:
        old = self._found(ident)
        _check(old, body["metadata"])
        new = copy.deepcopy(old)
        new["status"] = merged(old.get("status") or {}, body["status"])
        return old if new == old else self.server.put(new)

    def _delete(self, ident: Id, uid: str) -> Json:
        if self._found(ident)["metadata"]["uid"] != uid:
            raise ApiError(409, "Conflict", "another UID")
        self.server.remove(ident)
        return {}


def identify(body: Json) -> Id:
    """(kind, namespace, name) of an object."""
    return body["kind"], body["metadata"].get("namespace", ""), body["metadata"]["name"]


def merged(old: Json, change: Json) -> Json:
    """JSON merge patch (RFC 7386)."""
    new = dict(old)
    for key, value in change.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict):
            before = new.get(key)
            new[key] = merged(before if isinstance(before, dict) else {}, value)
        else:
            new[key] = copy.deepcopy(value)
    return new


def _check(old: Json, preconditions: Json) -> None:
    for name in ("uid", "resourceVersion"):
        if preconditions.get(name) not in (None, "", old["metadata"][name]):
            raise ApiError(409, "Conflict", f"another {name}")


def _owned(body: Json, uid: str) -> bool:
    return any(owner["uid"] == uid and owner.get("controller") for owner in body["metadata"].get("ownerReferences", ()))


def _matches(body: Json, labels: str | None) -> bool:
    there = body["metadata"].get("labels") or {}
    for term in (labels or "").split(","):
        name, _, value = term.partition("=")
        if name and (name not in there or (value and there[name] != value)):
            return False
    return True
