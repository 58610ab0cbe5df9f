"""Logs: one JSON object a line in a pod, plain text on a terminal, never a secret in either."""

from __future__ import annotations

import datetime
import json
import logging
import os
import re
import sys
from typing import Final, TextIO

_SECRET_NAME: Final = re.compile(r"(API_?KEY|TOKEN|SECRET|PASSWORD)", re.IGNORECASE)
_MIN_SECRET_CHARS: Final = 6
_secrets: set[str] = set()


def register_secret(value: str | None) -> None:
    """From now on `value` is replaced by *** in log lines, termination messages and log tails."""
    if value and len(value.strip()) >= _MIN_SECRET_CHARS:
        _secrets.add(value.strip())


def register_environment_secrets() -> None:
    """Register the value of every environment variable whose name says that it is a secret."""
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name):
            register_secret(value)


def redact(text: str) -> str:
    """The text without any registered secret."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


class JsonFormatter(logging.Formatter):
    """{"time", "level", "stage", "message", …}: `extra={"fields": {…}}` adds fields, exceptions go to "trace"."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage = stage

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON, without secrets."""
        when = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        document: dict[str, object] = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "stage": self.stage,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            document.update(fields)
        if record.exc_info:
            document["trace"] = self.formatException(record.exc_info)
        return redact(json.dumps(document, ensure_ascii=True, default=str))


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def setup(stage: str, *, stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Configure the root logger: JSON unless the stream (standard error) is a terminal."""
    register_environment_secrets()
    target = stream or sys.stderr
    handler = logging.StreamHandler(target)
    if target.isatty():
        handler.setFormatter(_PlainFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    else:
        handler.setFormatter(JsonFormatter(stage))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("httpx", "httpx2", "httpcore", "openai", "fsspec", "aiobotocore", "botocore", "urllib3", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
