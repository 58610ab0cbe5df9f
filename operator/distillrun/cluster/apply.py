"""Carries out what a pass decided: create or apply children, write the status, delete, post events.

Jobs and ConfigMaps are created once by POST: other controllers write to Jobs (Kueue sets `suspend`), and what matters
in them never changes. Services, Deployments and claims use server-side apply, and only when what the operator last
applied (annotation distillrun.dev/applied) differs. Whatever has the name already is first asked whom it belongs to.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

from distillrun.cluster import project
from distillrun.cluster.cache import Cache
from distillrun.cluster.client import Client
from distillrun.cluster.errors import ApiError
from distillrun.cluster.resources import BY_KIND, RUN, Resource
from distillrun.plan.model import Child, Conflict, Job, Ref, Refusal, Run, Want
from distillrun.plan.names import ANNOTATION_APPLIED, LABEL_MANAGED_BY, LABEL_RUN, MANAGER

logger = logging.getLogger(__name__)

Json = dict[str, Any]


class StaleRun(Exception):
    """The run changed since it was read: read it again and plan anew."""


class RunGone(Exception):
    """The run, or its namespace, is no more."""


class Applier:
    """Writes for one operator. Every answer goes into the cache, so the next pass sees it before the watch tells."""

    def __init__(self, client: Client, cache: Cache) -> None:
        self.client = client
        self.cache = cache
        self._written: dict[str, tuple[str, Json]] = {}

    def has(self, run: Run, want: Want) -> bool:
        """Whether an object that never changes is known to exist and to be ours: then there is nothing to build."""
        known = self.cache.child(run, want.kind, want.name) if want.immutable else None
        return isinstance(known, Job | Child) and belongs_to(known, run)

    async def ensure(self, run: Run, body: Json, *, immutable: bool) -> Conflict | Refusal | None:
        """Make an object exist. None when it does and is ours.

        Raises ApiError when the API server cannot be reached or fails, RunGone when the namespace is going.
        """
        kind, name = str(body["kind"]), str(body["metadata"]["name"])
        resource = BY_KIND[kind]
        known = self.cache.child(run, kind, name)
        try:
            if immutable:
                return await self._create_once(run, resource, body)
            wanted = body["metadata"].get("annotations", {}).get(ANNOTATION_APPLIED)
            same = isinstance(known, Child) and known.hash == wanted and not known.deleting
            if isinstance(known, Child) and same and belongs_to(known, run, body):
                return None
            return await self._apply(run, resource, body)
        except ApiError as error:
            if error.not_found or "NamespaceTerminating" in error.causes:
                raise RunGone(f"{kind} {run.namespace}/{name} cannot be created: {error.message}") from error
            if error.refused:
                return Refusal(kind, name, error.message)
            raise

    async def status(self, run: Run, status: Mapping[str, Any]) -> Run:
        """Write the whole status if it differs. The run as it is afterwards.

        Raises StaleRun when the run has changed since `run` was read, RunGone when it no longer exists.
        """
        wanted = without_none(status)
        change = merge_diff(run.status, wanted)
        if not change or self._written.get(run.uid) == (run.resource_version, wanted):
            return run
        body = {"metadata": {"resourceVersion": run.resource_version, "uid": run.uid}, "status": change}
        try:
            answer = await self.client.patch(RUN, run.namespace, run.name, body, subresource="status")
        except ApiError as error:
            if error.conflict:
                raise StaleRun(error.message) from error
            if error.not_found:
                raise RunGone(error.message) from error
            raise
        written = project.run(answer)
        if written.status != wanted:
            # Without this note a status that the server changes would be written by every pass, for ever.
            self._written[run.uid] = (written.resource_version, copy.deepcopy(wanted))
            lost = sorted(name for name in wanted if not contains(written.status.get(name), wanted[name]))
            if lost:
                logger.warning(
                    "The API server did not keep the status as it was written; does the installed definition fit this "
                    "operator? Fields that differ: %s",
                    ", ".join(lost),
                )
        self.cache.upsert(RUN.kind, answer)
        return written

    async def reread(self, run: Run) -> Run | None:
        """The run as it is now, None when it, or what had its name, is gone."""
        try:
            body = await self.client.get(RUN, run.namespace, run.name)
        except ApiError as error:
            if error.not_found:
                return None
            raise
        self.cache.upsert(RUN.kind, body)
        fresh = project.run(body)
        return fresh if fresh.uid == run.uid else None

    async def delete(self, run: Run, ref: Ref) -> None:
        """Delete an object of that UID and what it owns. One that is gone or was replaced is left alone."""
        try:
            await self.client.delete(BY_KIND[ref.kind], run.namespace, ref.name, ref.uid)
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise
        self.cache.mark_deleting((ref.kind, run.namespace, ref.name), ref.uid)

    def forget(self, uid: str) -> None:
        """A run is gone."""
        self._written.pop(uid, None)

    async def _create_once(self, run: Run, resource: Resource, body: Json) -> Conflict | None:
        try:
            self.cache.upsert(resource.kind, await self.client.create(resource, run.namespace, body))
        except ApiError as error:
            if not error.already_exists:
                raise
            found = await self.client.get(resource, run.namespace, body["metadata"]["name"])
            return self._judge(found, run, body)
        return None

    async def _apply(self, run: Run, resource: Resource, body: Json) -> Conflict | None:
        ours = False
        try:
            found = await self.client.get(resource, run.namespace, body["metadata"]["name"])
        except ApiError as error:
            if not error.not_found:
                raise
        else:
            conflict = self._judge(found, run, body)
            if conflict is not None or found["metadata"].get("deletionTimestamp"):
                return conflict
            ours = True
            # What was judged is what gets written: a UID that changed in between is refused by the server.
            body = body | {"metadata": body["metadata"] | {"uid": found["metadata"]["uid"]}}
        answer = await self.client.apply(resource, run.namespace, body, force=ours)
        self.cache.upsert(resource.kind, answer)
        return None

    def _judge(self, found: Json, run: Run, wanted: Json) -> Conflict | None:
        """Whether the object that has the name is ours; if not, whose it is."""
        owner = project.controller(found)
        meta = found["metadata"]
        labels = meta.get("labels") or {}
        if owner.get("uid") == run.uid or (not owner and _adoptable(labels, wanted)):
            self.cache.upsert(found.get("kind") or wanted["kind"], found)
            return None
        if owner.get("kind") == RUN.kind and owner.get("name") == run.name:
            words = f"an earlier run {run.name} (UID {owner.get('uid')})"
        elif owner:
            words = f"{owner.get('kind')} {owner.get('name')}"
        else:
            words = "nobody: it has no controller"
        return Conflict(str(wanted["kind"]), str(meta["name"]), words)


def belongs_to(child: Job | Child, run: Run, wanted: Mapping[str, Any] | None = None) -> bool:
    """Whether a cached child (found by its run-uid label) is controlled as it should be: by the run, or by nobody."""
    if wanted is not None and not project.controller(wanted):
        return child.owner_uid == ""
    return child.owner_uid == run.uid


def _adoptable(labels: Mapping[str, str], wanted: Json) -> bool:
    """An object meant to outlive its run has no controller; our labels with the same run's name make it ours."""
    if project.controller(wanted):
        return False
    return labels.get(LABEL_MANAGED_BY) == MANAGER and labels.get(LABEL_RUN) == project.label(wanted, LABEL_RUN)


def merge_diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> Json:
    """The JSON merge patch (RFC 7386) that turns `old` into `new`; empty when they are equal."""
    change: Json = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            inner = merge_diff(before, value)
            if inner:
                change[name] = inner
        elif name not in old or before != value:
            change[name] = value
    return change


def contains(stored: Any, written: Any) -> bool:
    """Whether all that was written is stored; defaults that the server added beside it do not matter."""
    if isinstance(written, Mapping):
        return isinstance(stored, Mapping) and all(contains(stored.get(name), value) for name, value in written.items())
    if isinstance(written, list):
        pairs = zip(stored, written, strict=True) if isinstance(stored, list) and len(stored) == len(written) else None
        return pairs is not None and all(contains(one, other) for one, other in pairs)
    return bool(stored == written)


def without_none(value: Any) -> Any:
    """The same JSON without members that are None, which no server stores and a merge patch takes for deletions."""
    if isinstance(value, Mapping):
        return {name: without_none(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [without_none(inner) for inner in value]
    return value
