"""Structured logs: one JSON object a line. What is logged during a pass carries run, stage and attempt."""

from __future__ import annotations

import contextvars
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from distillrun.plan.model import Run

_fields: contextvars.ContextVar[Mapping[str, object]] = contextvars.ContextVar("distillrun_log_fields")
NONE: Mapping[str, object] = {}
EXTRAS = ("namespace", "run", "uid", "stage", "attempt", "reason", "kind", "object")
"""Names that a log call may pass in `extra`; they win over those of the pass."""


def fields(run: Run) -> dict[str, object]:
    """What a line about a run carries: which run, and the stage and attempt at hand."""
    stage = str(run.status.get("stage") or "")
    found: dict[str, object] = {"namespace": run.namespace, "run": run.name, "uid": run.uid}
    if stage:
        stages = {each.get("name"): each for each in run.status.get("stages") or ()}
        found |= {"stage": stage, "attempt": stages.get(stage, {}).get("attempt") or 0}
    return found


@contextmanager
def about(run: Run) -> Iterator[None]:
    """What is logged inside is about this run."""
    token = _fields.set(fields(run))
    try:
        yield
    finally:
        _fields.reset(token)


def now_about(run: Run) -> None:
    """Inside `about`: the run has a new status, and maybe another stage or attempt."""
    if _fields.get(NONE):
        _fields.set(fields(run))


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "message", …}`; times in UTC, tracebacks in one field."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "time": f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= _fields.get(NONE)
        line |= {name: record.__dict__[name] for name in EXTRAS if name in record.__dict__}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """The same for a person's terminal."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields.get(NONE)
        where = f" [{fields['namespace']}/{fields['run']}]" if fields else ""
        time = datetime.fromtimestamp(record.created, UTC)
        text = f"{time:%H:%M:%S} {record.levelname.lower():7}{where} {record.getMessage()}"
        return text + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def configure(level: str = "INFO", *, json_lines: bool = True) -> None:
    """Send all logs to standard error. Raises ValueError for a level that does not exist."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if json_lines else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # kopf reports each handler call of each event; its errors and warnings are enough.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    logging.getLogger("kopf.activities").setLevel(logging.WARNING)
