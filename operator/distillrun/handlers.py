"""kopf watches; these handlers only remember what it tells and queue the run that it is about.

kopf is used for its watches alone: low-level `on.event` handlers, which need no annotations, no finalizers and no
writes. No peering (leadership is a Lease, cluster/lease.py), no events posted, no scanning for CRDs and namespaces
(which would need permissions that the operator has no other use for).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import kopf
from kopf._core.reactor import inventory  # passed to kopf.operator(), and exported nowhere else

from distillrun.cluster.cache import Cache, Key
from distillrun.cluster.connection import Connection
from distillrun.cluster.resources import CHILDREN, RUN, Resource
from distillrun.plan.names import LABEL_RUN

Told = Callable[[str, Mapping[str, Any]], None]
"""Called with the kind and the body of every object that the watch tells of."""


Changed = Callable[[Key], None]
"""Called with the key of the run that an event is about."""


def registry(
    connection: Connection, cache: Cache, changed: Changed, child_changed: Changed, told: Told
) -> kopf.OperatorRegistry:
    """One handler per kind, and the one that logs in."""
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers, id="login")(_login(connection))
    for resource in (RUN, *CHILDREN):
        where = (resource.group, resource.version, resource.plural)
        tell = changed if resource is RUN else child_changed
        kopf.on.event(*where, registry=handlers, id=resource.plural)(_watch(resource, cache, tell, told))
    return handlers


def settings() -> kopf.OperatorSettings:
    """How kopf watches: children by label on the server's side, quick to let go of what is quiet."""
    made = kopf.OperatorSettings()
    for resource in CHILDREN:
        made.watching.label_selectors[resource.group, resource.version, resource.plural] = LABEL_RUN
    made.watching.chunk_size = 500
    made.scanning.disabled = True
    made.posting.enabled = False
    made.peering.standalone = True
    # kopf has a task per object, which lives for a while after its last event. Few at a time and short-lived: a burst
    # of thousands would otherwise be worked on in one turn of the event loop, in which no lease is renewed.
    made.queueing.worker_limit = 64
    made.queueing.idle_timeout = 0.05
    made.persistence.diffbase_storage = _NoDiffs()
    made.process.ultimate_exiting_timeout = 20.0
    return made


class _NoDiffs(kopf.DiffBaseStorage):
    """kopf compares each object with its former self, for handlers of a kind that we have none of.

    Copying every object for that was a third of the operator's work.
    """

    def build(self, **_: Any) -> Any:
        """Nothing of an object matters for a comparison."""
        return {}

    def fetch(self, **_: Any) -> None:
        """There is no former self."""

    def store(self, **_: Any) -> None:
        """Nothing is written."""


class NoMemories(inventory.ResourceMemories):
    """kopf keeps notes on every object that lives, 2 KB each, for handlers of a kind that we have none of."""

    async def recall(self, raw_body: Any, **options: Any) -> Any:
        """Notes that nobody keeps."""
        return await super().recall(raw_body, **{**options, "ephemeral": True})


def _watch(resource: Resource, cache: Cache, changed: Changed, told: Told) -> Callable[..., Any]:
    async def handler(event: Mapping[str, Any], **_: Any) -> None:
        body = event["object"]
        told(resource.kind, body)
        gone = event["type"] == "DELETED"
        if not gone and cache.has_seen(resource.kind, body):
            return  # the answer to our own write, or our own list, was faster: there has been a pass, or there will be
        former = cache.key_of(resource.kind, body)
        key = cache.remove(resource.kind, body) if gone else cache.upsert(resource.kind, body)
        if resource is RUN:
            meta = body["metadata"]
            key = (meta["namespace"], meta["name"])
        for each in {key, former}:
            if each is not None:
                changed(each)

    return handler


def _login(connection: Connection) -> Callable[..., Any]:
    async def login(**_: Any) -> kopf.ConnectionInfo:
        header = await connection.authorization(renew=True) or ""
        scheme, token = header.split(" ", 1) if " " in header else ("", "")
        configuration = connection.configuration
        return kopf.ConnectionInfo(
            server=connection.host,
            ca_path=configuration.ssl_ca_cert or None,
            insecure=not configuration.verify_ssl,
            scheme=scheme or None,
            token=token or None,
            certificate_path=configuration.cert_file or None,
            private_key_path=configuration.key_file or None,
            proxy_url=connection.proxy,
        )

    return login
