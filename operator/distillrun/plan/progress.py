"""Progress of a running stage out of the numbers pulled from its first pod."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from distillrun.api.status import LastCheckpoint, Progress, Stage
from distillrun.plan.clock import rfc3339
from distillrun.plan.model import Scrape

NUMBERS_LIMIT = 40
_NOT_HEADLINES = {"progress_done", "progress_total", "checkpoint_step", "checkpoint_timestamp_seconds"}


def number(value: float) -> str:
    """A float as the shortest decimal string that is good to six digits."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.6g}"


def flatten(numbers: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested headline numbers as one flat map of strings, bounded: keys join with a dot, lists are left out."""
    flat: dict[str, str] = {}
    for key, value in numbers.items():
        name = f"{prefix}{key}"[:96]
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        elif isinstance(value, bool):
            flat[name] = str(value).lower()
        elif isinstance(value, int | float):
            flat[name] = number(float(value))
        elif isinstance(value, str):
            flat[name] = value[:32]
    return dict(list(flat.items())[:NUMBERS_LIMIT])


def progress(scrape: Scrape, stage: Stage, now: datetime) -> Progress | None:
    """Progress with rate and time to go, measured from the last written progress; None without totals."""
    done, total = _count(scrape, "progress_done"), _count(scrape, "progress_total")
    if done is None or total is None:
        return None
    before = stage.progress
    rate = float(before.rate) if before is not None else 0.0
    if before is not None and before.time is not None and done > before.done:
        elapsed = (now - datetime.fromisoformat(before.time)).total_seconds()
        rate = (done - before.done) / elapsed if elapsed > 0 else rate
    numbers = {
        name: number(value)
        for name, value in sorted(scrape.numbers.items())
        if name not in _NOT_HEADLINES and not name.startswith("progress_unit")
    }
    return Progress(
        done=done,
        total=total,
        unit=scrape.unit[:32],
        rate=number(rate),
        eta_seconds=int((total - done) / rate) if rate > 0 else None,
        numbers=dict(list(numbers.items())[:NUMBERS_LIMIT]),
        time=rfc3339(now),
        moved_time=(before.moved_time if before is not None and before.done == done else None) or rfc3339(now),
    )


def last_checkpoint(scrape: Scrape) -> LastCheckpoint | None:
    """The newest checkpoint that the stage has told of."""
    step, at = _count(scrape, "checkpoint_step"), scrape.numbers.get("checkpoint_timestamp_seconds")
    if not step or at is None or not 0 < at < 1e11:
        return None
    return LastCheckpoint(step=step, time=rfc3339(datetime.fromtimestamp(at, UTC)))


def _count(scrape: Scrape, name: str) -> int | None:
    value = scrape.numbers.get(name)
    return int(value) if value is not None and math.isfinite(value) and 0 <= value < 2**53 else None
