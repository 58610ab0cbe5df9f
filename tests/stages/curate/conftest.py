"""A curation as a user starts it: `python -m distillstages.curate --config stage.yaml`, in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from tests.stages.processes import descendants

REPOSITORY = Path(__file__).parents[3]


@dataclass
class Finished:
    """How a stage ended: exit code, termination message, log."""

    code: int
    message: dict[str, Any]
    log: str

    @property
    def numbers(self) -> dict[str, Any]:
        """The headline numbers of the termination message."""
        numbers: dict[str, Any] = self.message["numbers"]
        return numbers


@dataclass
class Stage:
    """A stage's folder with its configuration; `start` it (again and again), `wait` for it, look at what it wrote."""

    folder: Path
    block: dict[str, Any]
    attempt: int = 1
    environment: dict[str, str] = field(default_factory=dict)
    mirror: str | None = None
    process: subprocess.Popen[bytes] | None = None
    fingerprint: str = "9c" * 32
    root: Path | None = None

    @property
    def output(self) -> Path:
        """The stage's output folder."""
        return (self.root or self.folder / "artifacts") / "team/curate" / self.fingerprint

    @property
    def config(self) -> dict[str, Any]:
        """stage.yaml as the operator would write it."""
        return {
            "apiVersion": "distillrun.dev/stage/v1",
            "stage": "curate",
            "run": {"namespace": "team", "name": "test", "uid": "3f"},
            "fingerprint": self.fingerprint,
            "attempt": self.attempt,
            "output": self.output.as_uri(),
            "mirror": self.mirror,
            "curate": self.block,
        }

    def start(self) -> subprocess.Popen[bytes]:
        """Start the stage in a process group of its own (so that all of it can be killed at once)."""
        config = self.folder / "stage.yaml"
        config.write_text(yaml.safe_dump(self.config))
        env = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY / "images"),
            "DISTILLRUN_METRICS_PORT": "0",
            "DISTILLRUN_TERMINATION_LOG": str(self.folder / "termination"),
            "POD_NAME": "pod-1",
            **self.environment,
        }
        (self.folder / "termination").unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "distillstages.curate", "--config", str(config)], env=env, stdout=log, stderr=log
            )
        return self.process

    def wait(self) -> Finished:
        """Wait for the end."""
        assert self.process is not None
        code = self.process.wait(timeout=300)
        return Finished(code, json.loads((self.folder / "termination").read_text()), self.log)

    def run(self) -> Finished:
        """Start and wait."""
        self.start()
        return self.wait()

    def kill(self) -> None:
        """SIGKILL to the supervisor and everything below it, as when a node dies. Workers first, so none is told."""
        assert self.process is not None
        for pid in [*descendants(self.process.pid), self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()

    @property
    def log(self) -> str:
        """Everything the stage has logged."""
        return (self.folder / "log").read_text()

    def rows(self, which: str = "dataset") -> list[dict[str, Any]]:
        """The rows of the data set, or of `rejected`."""
        rows: list[dict[str, Any]] = pq.read_table(self.output / which / "part-00000.parquet").to_pylist()
        return rows

    def journal(self) -> list[dict[str, Any]]:
        """All complete lines of all journal files."""
        lines = []
        for path in sorted((self.output / ".partial").glob("answers-*.jsonl")):
            for line in path.read_bytes().splitlines():
                try:
                    lines.append(json.loads(line))
                except ValueError:
                    continue
        return lines


def additions(count: int) -> list[dict[str, str]]:
    """Questions with answers."""
    return [{"question": f"{n}+{n + 1}=?", "answer": str(2 * n + 1)} for n in range(count)]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A JSON Lines file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def make_stage(tmp_path: Path) -> Any:
    """make_stage(url, rows=…, teacher={…}, generate={…}) -> Stage; whatever still runs afterwards is killed."""
    stages: list[Stage] = []

    def make(url: str, rows: list[dict[str, Any]] | None = None, **options: Any) -> Stage:
        folder = tmp_path / f"stage-{len(stages)}"
        questions = write_jsonl(folder / "questions.jsonl", additions(5) if rows is None else rows)
        teacher = {"name": "t", "url": url, "model": "fake", "maxConcurrency": 8, "requestTimeoutSeconds": 60}
        block = {
            "teacher": {**teacher, **options.pop("teacher", {})},
            "sources": options.pop("sources", [{"name": "pool", "uri": questions.as_uri()}]),
            "generate": {"maxTokens": 64, **options.pop("generate", {})},
        }
        stage = Stage(folder, {**block, **options})
        stages.append(stage)
        return stage

    yield make
    for stage in stages:
        if stage.process is not None and stage.process.poll() is None:
            stage.kill()
