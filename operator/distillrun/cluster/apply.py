"""Carries out what a pass decided: create or apply children, write the status, delete, post events.

Jobs and ConfigMaps are created once by POST: other controllers write to Jobs (Kueue sets `suspend`), and what matters
in them never changes. Services, Deployments and claims use server-side apply, and only when what the operator last
applied (annotation distillrun.dev/applied) differs. Whatever has the name already is first asked whom it belongs to.
So are NetworkPolicies, but there is one for each stage, so a new one is a single POST: all lists in them are atomic,
and a later apply replaces them whole.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from distillrun.cluster import logs, project
from distillrun.cluster.cache import Cache, Key
from distillrun.cluster.client import Client
from distillrun.cluster.errors import ApiError
from distillrun.cluster.resources import BY_KIND, NETWORK_POLICY, RUN, Resource
from distillrun.cluster.transitions import Transition, between
from distillrun.plan.model import Child, Conflict, Job, Ref, Refusal, Run, Want
from distillrun.plan.names import (
    ANNOTATION_APPLIED,
    LABEL_ATTEMPT,
    LABEL_ENDPOINT,
    LABEL_MANAGED_BY,
    LABEL_RUN,
    LABEL_STAGE,
    MANAGER,
)

logger = logging.getLogger(__name__)

Json = dict[str, Any]


class StaleRun(Exception):
    """The run changed since it was read: read it again and plan anew."""


class RunGone(Exception):
    """The run, or its namespace, is no more."""


class Watcher(Protocol):
    """What the applier tells to whoever measures it."""

    def changed(self, run: Run, told: Transition) -> None: ...

    def wrote(self, kind: str, body: Mapping[str, Any]) -> None: ...


class Applier:
    """Writes for one operator. Every answer goes into the cache, so the next pass sees it before the watch tells."""

    def __init__(self, client: Client, cache: Cache, watcher: Watcher | None = None) -> None:
        self.client = client
        self.cache = cache
        self.watcher = watcher
        self._written: dict[str, tuple[str, Json]] = {}
        self._wrote: set[Key] = set()

    def wrote(self, key: Key) -> bool:
        """Whether anything was written for a run since this was last asked."""
        written = key in self._wrote
        self._wrote.discard(key)
        return written

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
            if immutable or (known is None and resource is NETWORK_POLICY):
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
        self._remember(run, RUN.kind, answer)
        self._tell(run, written)
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
        else:
            gone = self.cache.child(run, ref.kind, ref.name)
            labels = {LABEL_STAGE: gone.stage, LABEL_ATTEMPT: gone.attempt} if isinstance(gone, Job) else {}
            _say("Deleted", ref.kind, ref.name, labels)
        self.cache.mark_deleting((ref.kind, run.namespace, ref.name), ref.uid)

    def forget(self, uid: str) -> None:
        """A run is gone."""
        self._written.pop(uid, None)

    async def _create_once(self, run: Run, resource: Resource, body: Json) -> Conflict | None:
        try:
            answer = await self.client.create(resource, run.namespace, body)
        except ApiError as error:
            if not error.already_exists:
                raise
            try:
                found = await self.client.get(resource, run.namespace, body["metadata"]["name"])
            except ApiError as absent:
                if absent.not_found:  # it went in between: the next try finds the name free
                    raise error from absent
                raise
            return self._judge(found, run, body)
        self._remember(run, resource.kind, answer)
        _say("Created", resource.kind, body["metadata"]["name"], body["metadata"].get("labels") or {})
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
            # What was judged is what gets written. The server refuses what has changed in between: an object of another
            # UID, or one that the next leader has written while this request was on its way.
            judged = {name: found["metadata"][name] for name in ("uid", "resourceVersion")}
            body = body | {"metadata": body["metadata"] | judged}
        answer = await self.client.apply(resource, run.namespace, body, force=ours)
        self._remember(run, resource.kind, answer)
        _say("Applied", resource.kind, body["metadata"]["name"], body["metadata"].get("labels") or {})
        return None

    def _remember(self, run: Run, kind: str, answer: Json) -> None:
        """A write was taken: the next pass sees it before the watch tells."""
        self._wrote.add((run.namespace, run.name))
        if self.watcher is not None:
            self.watcher.wrote(kind, answer)
        self.cache.upsert(kind, answer)

    def _tell(self, before: Run, written: Run) -> None:
        """Log and count what the status says now; what follows in this pass is about the stage it names now."""
        told = between(before.status, written.status)
        logs.now_about(written)
        for word in told.words:
            logger.info(
                "%s",
                word.text,
                extra={
                    k: v for k, v in (("stage", word.stage), ("attempt", word.attempt), ("reason", word.reason)) if v
                },
            )
        if not told.words:
            logger.debug("Progress was written.")
        if self.watcher is not None:
            self.watcher.changed(written, told)

    def _judge(self, found: Json, run: Run, wanted: Json) -> Conflict | None:
        """Whether the object that has the name is ours; if not, whose it is."""
        owner = project.controller(found)
        meta = found["metadata"]
        labels = meta.get("labels") or {}
        if owner.get("uid") == run.uid or (not owner and _adoptable(labels, wanted)):
            self._wrote.add((run.namespace, run.name))
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


def _say(what: str, kind: str, name: str, labels: Mapping[str, Any]) -> None:
    about: Json = {"kind": kind, "object": name}
    if labels.get(LABEL_STAGE):
        about["stage"] = labels[LABEL_STAGE]
    if labels.get(LABEL_ATTEMPT):
        about["attempt"] = int(labels[LABEL_ATTEMPT])
    logger.info("%s %s %s.", what, kind, name, extra=about)


def _adoptable(labels: Mapping[str, str], wanted: Json) -> bool:
    """An object meant to outlive its run has no controller; our labels with the same run's name make it ours.

    A Service that runs share is handed from one to the next: it is ours by its own label.
    """
    if project.controller(wanted):
        return False
    shared = project.label(wanted, LABEL_ENDPOINT)
    if shared:
        return labels.get(LABEL_MANAGED_BY) == MANAGER and labels.get(LABEL_ENDPOINT) == shared
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
