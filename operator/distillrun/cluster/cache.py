"""What the operator remembers of the cluster: projections, indexed by run.

Filled by watch events, by the answers to our own writes (so that a pass sees what the pass before it created, before
the watch tells), and corrected by relist.py. An older resourceVersion never replaces a newer one: Kubernetes 1.35
guarantees that resourceVersions of one kind compare as integers. Runs are kept packed: thousands of specs and statuses
as dicts would be most of the operator's memory.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from distillrun.cluster import project
from distillrun.plan.model import Child, Job, Observed, Pod, Run, Scrape
from distillrun.plan.names import LABEL_RUN_UID

Key = tuple[str, str]
"""(namespace, name) of a run."""
Id = tuple[str, str, str]
"""(kind, namespace, name) of any object."""
Owner = tuple[str, str]
"""(namespace, UID of the run). The namespace is part of it: a label alone must not reach into another namespace."""

ACTIVE_PHASES = ("Pending", "Running")
GRAVES = 4096
"""Deleted objects that are remembered by UID, so that a late answer or event does not bring them back."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A run with its spec and status as compressed JSON: about a twentieth of what the dicts take."""

    run: Run
    """Without spec and status."""
    content: bytes

    @classmethod
    def of(cls, run: Run) -> Packed:
        """The run, packed."""
        content = json.dumps([run.spec, run.status], separators=(",", ":")).encode()
        return cls(dataclasses.replace(run, spec={}, status={}), zlib.compress(content, 1))

    def unpacked(self) -> Run:
        """The run as it was. Its dicts belong to the caller."""
        spec, status = json.loads(zlib.decompress(self.content))
        return dataclasses.replace(self.run, spec=spec, status=status)


@dataclass(frozen=True, slots=True)
class Entry:
    """One remembered object."""

    uid: str
    version: int
    owner: Owner
    value: Packed | Pod | Job | Child


class Cache:
    """All remembered objects. Not thread-safe: one event loop reads and writes it."""

    def __init__(self, gpu_resource: str = "nvidia.com/gpu") -> None:
        self.gpu_resource = gpu_resource
        self._entries: dict[Id, Entry] = {}
        self._keys: dict[Owner, Key] = {}
        self._children: dict[Owner, dict[Id, Entry]] = {}
        self._active: set[Owner] = set()
        self._scrapes: dict[str, Scrape] = {}
        self._graves: dict[str, int] = {}

    # -- filling ---------------------------------------------------------------------------------

    def upsert(self, kind: str, body: Mapping[str, Any]) -> Key | None:
        """Remember an object as it is now. The key of the run it belongs to, None when that is not known.

        An object that is older than what is remembered under its name, or than its own deletion, changes nothing.
        """
        ident, uid, as_of = _identity(kind, body)
        known = self._entries.get(ident)
        if as_of <= self._graves.get(uid, -1):
            return None
        if known is not None and known.version > as_of:
            return self._keys.get(known.owner)
        entry = Entry(uid, as_of, self._owner(kind, body), self._project(kind, body))
        if known is not None:
            self._unlink(ident, known)
            if known.uid != entry.uid:
                self._scrapes.pop(known.uid, None)
        self._entries[ident] = entry
        if kind == "DistillRun":
            self._keys[entry.owner] = ident[1:]
        else:
            self._children.setdefault(entry.owner, {})[ident] = entry
            if kind == "Pod":
                self._count(entry.owner)
        return self._keys.get(entry.owner)

    def remove(self, kind: str, body: Mapping[str, Any]) -> Key | None:
        """Forget an object that was deleted. The key of the run it belonged to."""
        ident, uid, as_of = _identity(kind, body)
        owner = self._owner(kind, body)
        key = self._keys.get(owner)
        known = self._entries.get(ident)
        if known is not None and known.uid == uid and known.version <= as_of:
            self._unlink(ident, known)
            self._scrapes.pop(known.uid, None)
        self._bury(uid, as_of)
        return key

    def drop(self, ident: Id, uid: str, as_of: int) -> Key | None:
        """Forget an object that a list of resourceVersion `as_of` does not show. The key of the run it belonged to."""
        known = self._entries.get(ident)
        if known is None or known.uid != uid or known.version > as_of:
            return None
        key = self._keys.get(known.owner)
        self._unlink(ident, known)
        self._scrapes.pop(known.uid, None)
        self._bury(uid, as_of)
        return key

    def mark_deleting(self, ident: Id, uid: str) -> None:
        """Our delete was accepted: the object goes, whether or not the watch has said so yet."""
        known = self._entries.get(ident)
        if known is None or known.uid != uid or isinstance(known.value, Packed) or known.value.deleting:
            return
        entry = dataclasses.replace(known, value=dataclasses.replace(known.value, deleting=True))
        self._entries[ident] = self._children[known.owner][ident] = entry
        self._count(known.owner)

    def put_scrape(self, pod: str, namespace: str, scrape: Scrape) -> None:
        """Remember a pod's numbers, as long as the pod itself is remembered."""
        known = self._entries.get(("Pod", namespace, pod))
        if known is not None and known.uid == scrape.pod_uid:
            self._scrapes[scrape.pod_uid] = scrape

    # -- reading ---------------------------------------------------------------------------------

    def run(self, key: Key) -> Run | None:
        """The run of that key."""
        entry = self._entries.get(("DistillRun", *key))
        return entry.value.unpacked() if entry is not None and isinstance(entry.value, Packed) else None

    def runs(self) -> Iterator[Run]:
        """All runs, unpacked one after the other: to be looked at, not to be collected."""
        for key in list(self._keys.values()):
            run = self.run(key)
            if run is not None:
                yield run

    def active_runs(self) -> Iterator[Run]:
        """Runs that have a pod that waits or runs, without their specs and statuses."""
        for owner in list(self._active):
            entry = self._entries.get(("DistillRun", *self._keys.get(owner, ("", ""))))
            if entry is not None and isinstance(entry.value, Packed):
                yield entry.value.run

    def run_keys(self) -> list[Key]:
        """Keys of all runs."""
        return list(self._keys.values())

    def child(self, run: Run, kind: str, name: str) -> Child | Job | Pod | None:
        """A run's child of that kind and name."""
        entry = self._children.get((run.namespace, run.uid), {}).get((kind, run.namespace, name))
        return entry.value if entry is not None and not isinstance(entry.value, Packed) else None

    def pods(self, run: Run) -> list[Pod]:
        """The pods of a run."""
        entries = self._children.get((run.namespace, run.uid), {}).values()
        return [entry.value for entry in entries if isinstance(entry.value, Pod)]

    def observe(self, run: Run) -> Observed:
        """What is known of a run's children, less what the passes themselves remember (conflicts, refusals)."""
        jobs: dict[str, Job] = {}
        pods: dict[str, Pod] = {}
        children: dict[tuple[str, str], Child] = {}
        scrapes: dict[str, Scrape] = {}
        for (kind, _, name), entry in self._children.get((run.namespace, run.uid), {}).items():
            value = entry.value
            if isinstance(value, Job):
                jobs[name] = value
            elif isinstance(value, Pod):
                pods[name] = value
                if value.uid in self._scrapes:
                    scrapes[name] = self._scrapes[value.uid]
            elif isinstance(value, Child):
                children[kind, name] = value
        holder = self._endpoint(run)
        return Observed(
            jobs,
            pods,
            children,
            scrapes,
            endpoint=holder,
            endpoint_orphaned=holder is not None and (run.namespace, holder.run_uid) not in self._keys,
            running_runs=max(1, self.running_runs),
        )

    def _endpoint(self, run: Run) -> Child | None:
        """The shared Service that the run names, whichever run holds it."""
        name = (run.spec.get("serve") or {}).get("endpointName")
        entry = self._entries.get(("Service", run.namespace, str(name))) if name else None
        return entry.value if entry is not None and isinstance(entry.value, Child) else None

    @property
    def running_runs(self) -> int:
        """Runs that have a pod that waits or runs."""
        return len(self._active)

    def scrape(self, pod: Pod) -> Scrape | None:
        """A pod's last numbers."""
        return self._scrapes.get(pod.uid)

    def of_kind(self, kind: str) -> dict[Id, Entry]:
        """Every remembered object of a kind."""
        return {ident: entry for ident, entry in self._entries.items() if ident[0] == kind}

    def key_of(self, kind: str, body: Mapping[str, Any]) -> Key | None:
        """The run that an object of that name was remembered for: not the one it names now, once it changed hands."""
        meta = body.get("metadata") or {}
        known = self._entries.get((kind, str(meta.get("namespace") or ""), str(meta.get("name") or "")))
        return self._keys.get(known.owner) if known is not None else None

    def get(self, ident: Id) -> Entry | None:
        """One remembered object."""
        return self._entries.get(ident)

    def has_seen(self, kind: str, body: Mapping[str, Any]) -> bool:
        """Whether an object would change nothing: it, or a later state of it, is remembered."""
        ident, uid, as_of = _identity(kind, body)
        return as_of > 0 and self.knows(ident, uid, as_of)

    def knows(self, ident: Id, uid: str, as_of: int) -> bool:
        """Whether an object is remembered in that version or a later one, or is known to have been deleted since."""
        known = self._entries.get(ident)
        if known is not None and known.version >= as_of and (known.uid == uid or known.version > as_of):
            return True
        return self._graves.get(uid, -1) >= as_of

    def counts(self) -> Mapping[str, int]:
        """Remembered objects by kind."""
        return Counter(kind for kind, _, _ in self._entries)

    def phases(self) -> Mapping[str, int]:
        """Runs by phase."""
        return Counter(str(run.status.get("phase") or "Pending") for run in self.runs())

    # -- inside ----------------------------------------------------------------------------------

    def _owner(self, kind: str, body: Mapping[str, Any]) -> Owner:
        meta = body.get("metadata") or {}
        uid = str(meta.get("uid") or "") if kind == "DistillRun" else project.label(body, LABEL_RUN_UID)
        # One string for all objects of a run, not one for each time that JSON was parsed.
        return sys.intern(str(meta.get("namespace") or "")), sys.intern(uid)

    def _project(self, kind: str, body: Mapping[str, Any]) -> Packed | Pod | Job | Child:
        if kind == "DistillRun":
            return Packed.of(project.run(body))
        if kind == "Pod":
            return project.pod(body, self.gpu_resource)
        if kind == "Job":
            return project.job(body)
        return project.child(body, kind)

    def _bury(self, uid: str, as_of: int) -> None:
        self._graves[uid] = as_of
        if len(self._graves) > GRAVES:
            del self._graves[next(iter(self._graves))]

    def _unlink(self, ident: Id, entry: Entry) -> None:
        del self._entries[ident]
        if ident[0] == "DistillRun":
            self._keys.pop(entry.owner, None)
            return
        bucket = self._children.get(entry.owner, {})
        bucket.pop(ident, None)
        if not bucket:
            self._children.pop(entry.owner, None)
        if ident[0] == "Pod":
            self._count(entry.owner)

    def _count(self, owner: Owner) -> None:
        pods = (e.value for e in self._children.get(owner, {}).values() if isinstance(e.value, Pod))
        if any(pod.phase in ACTIVE_PHASES and not pod.deleting for pod in pods):
            self._active.add(owner)
        else:
            self._active.discard(owner)


def _identity(kind: str, body: Mapping[str, Any]) -> tuple[Id, str, int]:
    """An object's name, UID and version."""
    meta = body.get("metadata") or {}
    ident = (kind, sys.intern(str(meta.get("namespace") or "")), str(meta.get("name") or ""))
    return ident, str(meta.get("uid") or ""), version(body)


def version(body: Mapping[str, Any]) -> int:
    """resourceVersion as the integer that it is, 0 when missing or (on a foreign server) no integer."""
    try:
        return int((body.get("metadata") or {}).get("resourceVersion") or 0)
    except ValueError:
        return 0
