"""Kubernetes Events about runs: events.k8s.io/v1, posted once each, never the reason for a pass to fail."""

from __future__ import annotations

import hashlib
import logging
import time
from datetime import UTC, datetime
from typing import Any

from distillrun.cluster.client import FIELD_MANAGER, Client
from distillrun.cluster.errors import ApiError
from distillrun.cluster.resources import EVENT, RUN
from distillrun.plan.model import Event, Run

logger = logging.getLogger(__name__)

REMEMBERED = 4096
QUIET_SECONDS = 600.0
"""An event that repeats within this time is not posted again."""
NOTE_LIMIT = 1024
"""Characters; the API server refuses more."""


class Recorder:
    """Posts events. Repeats are caught twice: in memory, and by the object's name, which is a hash of what it says.

    So an operator that restarts and decides the same thing again posts nothing, as long as the first one is kept (an
    hour).
    """

    def __init__(self, client: Client, instance: str) -> None:
        self.client = client
        self.instance = instance[:128]
        self._posted: dict[str, float] = {}

    async def post(self, run: Run, event: Event) -> None:
        """Post an event unless it was just posted. Never raises ApiError."""
        name = event_name(run, event)
        now = time.monotonic()
        if now - self._posted.get(name, float("-inf")) < QUIET_SECONDS:
            return
        self._posted.pop(name, None)
        self._posted[name] = now
        if len(self._posted) > REMEMBERED:
            del self._posted[next(iter(self._posted))]
        try:
            await self.client.create(EVENT, run.namespace, self.body(run, event), retry=False)
        except ApiError as error:
            if not error.already_exists:
                logger.warning("Event %s was not posted: %s", event.reason, error)

    def body(self, run: Run, event: Event) -> dict[str, Any]:
        """The Event object."""
        note = event.message if len(event.message) <= NOTE_LIMIT else event.message[: NOTE_LIMIT - 1] + "…"
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"name": event_name(run, event), "namespace": run.namespace},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": "distillrun.dev/operator",
            "reportingInstance": self.instance or FIELD_MANAGER,
            "action": "Reconcile",
            "type": event.type,
            "reason": event.reason[:128],
            "note": note,
            "regarding": {
                "apiVersion": RUN.api_version,
                "kind": RUN.kind,
                "namespace": run.namespace,
                "name": run.name,
                "uid": run.uid,
                "resourceVersion": run.resource_version,
            },
        }


def event_name(run: Run, event: Event) -> str:
    """`<run>.<16 hex>`: the same event about the same run has the same name."""
    said = "\0".join((run.uid, event.type, event.reason, event.message))
    return f"{run.name}.{hashlib.sha256(said.encode()).hexdigest()[:16]}"
