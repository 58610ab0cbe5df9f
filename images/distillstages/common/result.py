"""result.json: what a complete stage says about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

RESULT_VERSION: Final = "distillrun.dev/result/v1"
OUTPUT_VERSION: Final = 1


@dataclass(frozen=True)
class Result:
    """The content of result.json."""

    stage: str
    fingerprint: str
    attempt: int
    numbers: Mapping[str, Any]
    outputs: Mapping[str, str]
    details: Mapping[str, Any] = field(default_factory=dict)
    output_version: int = OUTPUT_VERSION
    run: str = ""
    """The uid of the run that published it, "" where unknown."""
    origin: str = ""
    """That run's "namespace/name"."""

    def encode(self) -> bytes:
        """result.json, keys sorted, so that equal results are equal bytes."""
        document: dict[str, Any] = {
            "apiVersion": RESULT_VERSION,
            "stage": self.stage,
            "fingerprint": self.fingerprint,
            "attempt": self.attempt,
            "outputVersion": self.output_version,
            "numbers": dict(self.numbers),
            "outputs": dict(self.outputs),
            "run": {"uid": self.run, "name": self.origin},
        }
        if self.details:
            document["details"] = dict(self.details)
        return (json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode("utf-8", "replace")

    @classmethod
    def decode(cls, data: bytes) -> Result:
        """The inverse of `encode`. Raises ValueError."""
        d = json.loads(data)
        if not isinstance(d, dict) or d.get("apiVersion") != RESULT_VERSION:
            raise ValueError(f"not a result: expected a JSON object with apiVersion {RESULT_VERSION}")
        run = d.get("run") or {}
        try:
            return cls(
                d["stage"],
                d["fingerprint"],
                int(d["attempt"]),
                d["numbers"],
                d["outputs"],
                d.get("details", {}),
                int(d["outputVersion"]),
                str(run.get("uid", "")),
                str(run.get("name", "")),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a result: {error!r}") from None
