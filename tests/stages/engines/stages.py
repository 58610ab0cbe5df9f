"""Stages started as a user does, `python -m distillstages.<stage> --config stage.yaml`, and models for the fake."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.stages.processes import descendants

REPOSITORY = Path(__file__).parents[3]
FAKE_COMMAND = shlex.join([sys.executable, str(Path(__file__).with_name("fake_vllm.py"))])
FINGERPRINT = "e7" * 32


@dataclass
class Finished:
    """How a stage ended: exit code, termination message, log."""

    code: int
    message: dict[str, Any]
    log: str

    @property
    def reason(self) -> str | None:
        """The termination message's reason."""
        reason: str | None = self.message["reason"]
        return reason

    @property
    def scores(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The scores of the termination message by (benchmark, model)."""
        return {(s["benchmark"], s["model"]): s for s in self.message["numbers"]["scores"]}


@dataclass
class FakeModel:
    """A folder that looks like a model, and tells the fake what to do."""

    folder: Path

    @property
    def uri(self) -> str:
        """Its file:// URI."""
        return self.folder.as_uri()

    def does(self, **behaviour: Any) -> FakeModel:
        """Set the behaviour (see fake_vllm.py)."""
        (self.folder / "fake.json").write_text(json.dumps(behaviour))
        return self

    def release(self) -> None:
        """Let held completions go."""
        (self.folder / "release").touch()

    def events(self, event: str) -> list[dict[str, Any]]:
        """The lines of requests.jsonl of one kind: started, asked, ended."""
        path = self.folder / "requests.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if line["event"] == event]

    def asked(self) -> list[str]:
        """The questions in the order in which they came, the warm-up's left out."""
        questions = [e["request"]["messages"][-1]["content"] for e in self.events("asked")]
        return [q for q in questions if q != "1+1=?"]


def make_model(folder: Path, **behaviour: Any) -> FakeModel:
    """A model folder with everything that is looked for before a start."""
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"):
        (folder / name).write_text("{}")
    return FakeModel(folder).does(**behaviour)


@dataclass
class Stage:
    """One stage's folder with its configuration; `start` it, again and again, and `wait` for it."""

    name: str
    folder: Path
    block: dict[str, Any]
    attempt: int = 1
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    command: str = FAKE_COMMAND
    port: int = 0

    @property
    def output(self) -> Path:
        """The stage's output folder."""
        return self.folder / "artifacts/team" / self.name / FINGERPRINT

    def start(self) -> None:
        """Start it."""
        document = {
            "apiVersion": "distillrun.dev/stage/v1",
            "stage": self.name,
            "run": {"namespace": "team", "name": "test", "uid": "3f"},
            "fingerprint": FINGERPRINT,
            "attempt": self.attempt,
            "output": self.output.as_uri(),
            "seed": 42,
            self.name: self.block,
        }
        config = self.folder / "stage.yaml"
        config.write_text(yaml.safe_dump(document))
        (self.folder / "termination").unlink(missing_ok=True)
        env = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY / "images"),
            "DISTILLRUN_METRICS_PORT": str(self.port),
            "DISTILLRUN_TERMINATION_LOG": str(self.folder / "termination"),
            "DISTILLRUN_VLLM_COMMAND": self.command,
            "POD_NAME": "pod-1",
            **self.environment,
        }
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"distillstages.{self.name}", "--config", str(config)],
                env=env,
                stdout=log,
                stderr=log,
            )

    def wait(self, seconds: float = 300) -> Finished:
        """Wait for the end."""
        assert self.process is not None
        code = self.process.wait(timeout=seconds)
        return Finished(code, json.loads((self.folder / "termination").read_text()), self.log)

    def run(self) -> Finished:
        """Start and wait."""
        self.start()
        return self.wait()

    @property
    def log(self) -> str:
        """Everything logged so far."""
        return (self.folder / "log").read_text()

    def terminate(self) -> None:
        """SIGTERM to the supervisor, as the kubelet sends it."""
        assert self.process is not None
        self.process.terminate()

    def kill(self) -> None:
        """SIGKILL to the supervisor and everything below it, deepest first, as when a node dies."""
        assert self.process is not None
        for pid in [*descendants(self.process.pid), self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET on the progress port; (0, "") while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition: Callable[[], Any], what: str, seconds: float = 120) -> None:
    """Wait for a condition; the limit is there so that a broken test ends, nothing is measured with it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.05)


def additions(count: int) -> list[dict[str, str]]:
    """Questions with answers."""
    return [{"question": f"{n}+{n + 1}=?", "answer": str(2 * n + 1)} for n in range(count)]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A JSON Lines file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
