"""Which revision of a hub repository counts: the one pinned earlier, the one asked for, or the newest."""

from __future__ import annotations

from distillstages.common import hub
from distillstages.common.exit import DataFault


def pin(uri: str, revision: str | None, pinned: str | None) -> str:
    """The commit to use. A `pinned` one stays, as long as the hub still has it. Raises DataFault, Temporary."""
    if pinned is None:
        return hub.pin(uri, revision)
    try:
        return hub.pin(uri, pinned)
    except DataFault as error:
        raise DataFault(
            f"{uri}: this run was resolved with revision {pinned}, which the hub does not have any more or does not "
            "let us read; start a new run to use the newest one",
            reason=error.reason,
        ) from error
