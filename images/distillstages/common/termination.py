"""The termination message: one JSON object of at most 4,096 bytes, a stage's last act. Source: the stage contract.

Kubernetes cuts a longer message in the middle, which would leave no JSON at all; so it is shortened here, least
important parts first: the log, the sentence, then long lists and tables inside the numbers.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

from distillstages.common.exit import StageError

MAX_BYTES: Final = 4096
_MESSAGE_CHARS: Final = 1000
DEFAULT_PATH: Final = "/dev/termination-log"
PATH_VARIABLE: Final = "DISTILLRUN_TERMINATION_LOG"


Outcome = Literal["Succeeded", "Failed", "Absent"]


@dataclass(frozen=True)
class Termination:
    """What a stage leaves behind. `numbers`: the headline numbers, `log`: the tail of the log or its place,
    `reused_from`: the run ("namespace/name") that the result is of, None for our own. Absent is the probe's word for a
    result that is not there."""

    outcome: Outcome
    reason: str | None = None
    message: str | None = None
    retry_after_seconds: float | None = None
    artifact: str | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)
    log: str | None = None
    reused_from: str | None = None

    @classmethod
    def succeeded(
        cls, artifact: str | None, numbers: Mapping[str, Any], *, reused_from: str | None = None
    ) -> Termination:
        """The message of a complete stage."""
        return cls("Succeeded", artifact=artifact, numbers=numbers, reused_from=reused_from)

    @classmethod
    def failed(cls, error: StageError, *, artifact: str | None = None, log: str | None = None) -> Termination:
        """The message of a failed stage."""
        return cls("Failed", error.reason, error.message, error.retry_after_seconds, artifact, {}, log)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object, keys as in the contract, made of valid JSON values only (no NaN, no lone surrogates)."""
        return {
            "outcome": self.outcome,
            "reason": _clean(self.reason),
            "message": _clean(self.message),
            "retryAfterSeconds": _clean(self.retry_after_seconds),
            "artifact": _clean(self.artifact),
            "numbers": _clean(dict(self.numbers)),
            "log": _clean(self.log),
            **({"reusedFrom": _clean(self.reused_from)} if self.reused_from else {}),
        }

    def dump(self) -> bytes:
        """UTF-8 JSON, however long it gets."""
        return _dump(self.as_dict())

    def encode(self) -> bytes:
        """UTF-8 JSON of at most MAX_BYTES bytes, always valid."""
        short = self
        if self.message and len(self.message) > _MESSAGE_CHARS:
            short = replace(self, message=_cut(self.message, _MESSAGE_CHARS))
        document = short.as_dict()
        if document["log"]:
            # The end of a log says more than its beginning.
            spare = MAX_BYTES - _size({**document, "log": None})
            document["log"] = _tail(document["log"], spare - 16)
        if _size(document) > MAX_BYTES:
            document["numbers"] = _fit_numbers(document["numbers"], MAX_BYTES - _size({**document, "numbers": {}}))
        for key, chars in (("message", 200), ("artifact", 0), ("reason", 64)):
            if _size(document) > MAX_BYTES and document[key]:
                document[key] = _cut(document[key], chars) if chars else None
        return _dump(document)


def decode(data: bytes | str) -> Termination:
    """The inverse of `encode`. Raises ValueError when it is not such a message."""
    document = json.loads(data)
    if not isinstance(document, dict) or document.get("outcome") not in get_args(Outcome):
        raise ValueError("not a termination message: expected a JSON object with an outcome")
    return Termination(
        document["outcome"],
        document.get("reason"),
        document.get("message"),
        document.get("retryAfterSeconds"),
        document.get("artifact"),
        document.get("numbers") or {},
        document.get("log"),
        document.get("reusedFrom"),
    )


def default_path() -> Path:
    """Where the message goes: $DISTILLRUN_TERMINATION_LOG, or Kubernetes' default."""
    return Path(os.environ.get(PATH_VARIABLE) or DEFAULT_PATH)


def write(termination: Termination, path: str | Path | None = None) -> bool:
    """Write the message. In a pod the file is a bind mount, so it is overwritten in place; on a laptop there is none,
    and nothing is written unless the variable names a file. Never raises: a message must not hide its cause."""
    target = Path(path) if path is not None else default_path()
    if path is None and PATH_VARIABLE not in os.environ and not target.exists():
        return False
    try:
        with target.open("wb") as file:
            file.write(termination.encode())
    except OSError:
        return False
    return True


def write_atomic(data: bytes, path: Path) -> None:
    """Write a small file so that a reader sees all of it or none. Raises OSError."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")


def _size(document: Mapping[str, Any]) -> int:
    return len(_dump(document))


def _clean(value: Any) -> Any:
    """Only what JSON can say: NaN and infinities become null, lone surrogates a question mark, unknown types text."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_clean(str(k)): _clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(v) for v in value]
    return _clean(str(value))


def _cut(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[: max(chars - 1, 0)] + "…"


def _tail(text: str, size: int) -> str | None:
    """The longest tail whose JSON string takes at most `size` bytes, or None."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if len(json.dumps(text[-middle:], ensure_ascii=False).encode("utf-8")) <= size:
            low = middle
        else:
            high = middle - 1
    return text[-low:] if low else None


def _fit_numbers(numbers: dict[str, Any], size: int) -> dict[str, Any]:
    """Numbers in at most `size` bytes: entries are kept in order while they fit (a table or a list in part), and
    `truncated` says that something is missing."""
    marker = {"truncated": True}
    kept: dict[str, Any] = {}

    def fits(candidate: dict[str, Any]) -> bool:
        return _size({**candidate, **marker}) <= size

    # Scalars are the headline; tables and lists get what remains.
    for key, value in sorted(numbers.items(), key=lambda item: isinstance(item[1], (dict, list))):
        if fits({**kept, key: value}):
            kept[key] = value
        elif isinstance(value, dict):
            part: dict[str, Any] = {}
            for inner_key, inner in value.items():
                if fits({**kept, key: {**part, inner_key: inner}}):
                    part[inner_key] = inner
            if part:
                kept[key] = part
        elif isinstance(value, list):
            items: list[Any] = []
            for inner in value:
                if not fits({**kept, key: [*items, inner]}):
                    break
                items.append(inner)
            if items:
                kept[key] = items
    return {**kept, **marker} if fits(kept) else {}
