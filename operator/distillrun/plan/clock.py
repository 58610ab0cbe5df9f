"""Times as Kubernetes writes them. There is no clock here: `now` is always an argument."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds: 2026-01-31T12:00:00Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def since(moment: str, now: datetime) -> float:
    """Seconds from an RFC 3339 time to now."""
    return (now - datetime.fromisoformat(moment)).total_seconds()
