"""Two supervisors with their workers on one output folder: a node that was away comes back while the next attempt
works, or after it is through."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from distillstages.common.artifacts import Output
from tests.stages.train import worlds

SUPERVISOR = """
import sys
from pathlib import Path
from distillstages.common.supervisor import Options, supervise
worker, config, here = sys.argv[1:]
options = Options(stage="train", port=None, termination_path=Path(here) / (Path(config).stem + ".end"))
sys.exit(supervise([sys.executable, worker, "--config", config], options))
"""

WORKER = """
import os, time
from pathlib import Path
from distillstages.common import worker
here = Path(__file__).parent

def body(context):
    attempt, output = context.config.attempt, context.output
    mine = f".partial/work-{output.token}"
    output.folder(mine)
    output.write(mine + "/weights", f"of attempt {attempt}".encode())
    output.put("scores.json", f"of attempt {attempt}".encode())
    (here / f"ready-{attempt}").write_text("")
    while not (here / f"go-{attempt}").exists():
        time.sleep(0.02)
    return output.publish({"by": attempt}, {}, moves={"model": mine}).numbers

worker.run("train", body)
"""


class Attempt:
    """A supervisor with its worker, as a pod has them."""

    def __init__(self, here: Path, number: int, run: str = "run-1") -> None:
        self.here, self.number = here, number
        config = worlds.configuration(here, here / "student", here / "dataset", attempt=number)
        document = yaml.safe_load(config.read_text())
        document["run"]["uid"] = run
        config.write_text(yaml.safe_dump(document))
        self.config = config
        environment = {**os.environ, "PYTHONPATH": str(worlds.IMAGES), "POD_NAME": f"pod-{number}"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, str(here / "worker.py"), str(config), str(here)],
            env=environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def ready(self) -> None:
        """Until everything is prepared and only the publishing is left."""
        until(lambda: (self.here / f"ready-{self.number}").exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.message()

    def go(self) -> None:
        """Let it publish."""
        (self.here / f"go-{self.number}").write_text("")

    def signal(self, number: signal.Signals) -> None:
        """To every process of it."""
        for process in (self.process.pid, *children(self.process.pid)):
            os.kill(process, number)

    def message(self) -> tuple[int, str | None]:
        """Exit code and reason."""
        code = self.process.wait(timeout=300)
        end = json.loads((self.here / f"{self.config.stem}.end").read_text())
        return code, end.get("reason")


def children(pid: int) -> list[int]:
    return [int(each) for path in Path(f"/proc/{pid}/task").glob("*/children") for each in path.read_text().split()]


def until(condition: Callable[[], bool]) -> None:
    for _ in range(15_000):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("waited in vain")


@pytest.mark.parametrize("comes_back", ["while the next attempt works", "after the next attempt has published"])
def test_a_node_that_was_away_and_comes_back_publishes_nothing(comes_back: str, tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    stale = Attempt(tmp_path, 1)
    stale.ready()
    stale.signal(signal.SIGSTOP)
    newer = Attempt(tmp_path, 2)
    newer.ready()
    if comes_back.startswith("after"):
        newer.go()
        assert newer.message() == (0, None)

    stale.go()
    stale.signal(signal.SIGCONT)
    assert stale.message() == (75, "SupersededAttempt")

    newer.go()
    assert newer.message() == (0, None)
    output = tmp_path / "output"
    result = Output(output.as_uri(), stage="train", fingerprint=worlds.FINGERPRINT, attempt=9).completed()
    assert result is not None
    assert (result.attempt, result.numbers) == (2, {"by": 2})
    assert (output / "scores.json").read_text() == (output / "model/weights").read_text() == "of attempt 2"


def test_a_second_run_that_would_compute_the_same_leaves_the_first_alone_and_comes_back_later(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    first = Attempt(tmp_path, 3)
    first.ready()

    second = Attempt(tmp_path, 1, run="run-2")
    assert second.message() == (75, "SupersededAttempt")
    end = json.loads((tmp_path / "stage-1.end").read_text())
    assert end["retryAfterSeconds"] == 300
    assert "another run (run-1, pod pod-3) computes the same" in end["message"]

    first.go()
    assert first.message() == (0, None)
    assert Attempt(tmp_path, 2, run="run-2").message() == (0, None), "it takes the result over"
