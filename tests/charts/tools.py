"""Programs of others that judge what we ship, built from their own code by hack/localkube (go/promql, go/health)."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Promql:
    """Prometheus' parser and engine."""

    program: Path

    def ask(self, **question: Any) -> Json:
        """The answer to a question (go/promql/main.go)."""
        done = subprocess.run([self.program], input=json.dumps(question), capture_output=True, text=True, check=True)
        answer: Json = json.loads(done.stdout)
        return answer

    def fires(self, expression: str, series: str, minutes: float) -> list[Json]:
        """Labels of what an expression yields at that time; `series` are lines `name{…} values`, one value a minute."""
        lines = "".join(f"  {line.strip()}\n" for line in series.strip().splitlines())
        query = {"load": f"load 1m\n{lines}", "expr": expression, "seconds": int(minutes * 60)}
        (result,) = self.ask(queries=[query])["results"]
        assert "error" not in result, result["error"]
        return [sample["labels"] for sample in result["samples"]]


@dataclass(frozen=True)
class Health:
    """Argo CD's Lua interpreter, and kstatus."""

    program: Path

    def judge(self, *arguments: str, objects: list[Json]) -> list[tuple[str, str]]:
        """Status and message of each object."""
        text = "".join(json.dumps(each) + "\n" for each in objects)
        command = [str(self.program), *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        verdicts = [json.loads(line) for line in done.stdout.splitlines()]
        return [(each["status"], each["message"]) for each in verdicts]
