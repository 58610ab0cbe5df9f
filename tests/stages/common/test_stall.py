"""A stage that stands still, with real processes: one pod or several, in a real collective or a pretended one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[3]

# A pod: a supervisor whose worker is worker.py, run once for each of its ranks.
POD = """
import json, sys
from pathlib import Path
from distillstages.common.artifacts import Output
from distillstages.common.supervisor import Options, supervise
here, ranks, limit = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
def output():
    return Output((here / "output").as_uri(), stage="train", fingerprint="7e" * 32, attempt=3)
command = [sys.executable, *sys.argv[4:]]
sys.exit(supervise(command, Options("train", port=None, stall_timeout_seconds=limit, output=output, ranks=ranks)))
"""


def start(folder: Path, pod: int, ranks: int, *command: str, limit: float = 4, **env: str) -> subprocess.Popen[str]:
    (folder / "pod.py").write_text(POD)
    variables = {"PYTHONPATH": str(REPOSITORY / "images"), "DISTILLRUN_TERMINATION_LOG": str(folder / f"end-{pod}")}
    return subprocess.Popen(
        [sys.executable, str(folder / "pod.py"), str(folder), str(ranks), str(limit), *command],
        env={**os.environ, **variables, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(pod: subprocess.Popen[str], folder: Path, number: int = 0) -> tuple[int, dict[str, Any], str]:
    log, _ = pod.communicate(timeout=280)
    return pod.returncode, json.loads((folder / f"end-{number}").read_text()), log


PRETENDED = """
import os, sys, time
from distillstages.common import worker
sys.path.insert(0, os.path.dirname(__file__))
from torch.distributed import collective  # a pretended one
metrics = worker.prepare("train")
metrics.set_patience(10)
for step in range(1, 4):
    metrics.set("step", step)
metrics.set_patience(1)
def data_loader_that_never_returns():
    time.sleep(1000)
if os.environ["RANK"] == "1":
    data_loader_that_never_returns()
collective.all_reduce()
"""


@pytest.fixture
def pretended(tmp_path: Path) -> Path:
    (tmp_path / "torch/distributed").mkdir(parents=True)
    (tmp_path / "torch/__init__.py").touch()
    (tmp_path / "torch/distributed/__init__.py").touch()
    (tmp_path / "torch/distributed/collective.py").write_text("import time\ndef all_reduce():\n    time.sleep(1000)\n")
    path = tmp_path / "worker.py"
    path.write_text(PRETENDED)
    return path


def test_pods_that_hang_all_keep_their_stacks_and_all_name_the_rank_that_is_the_cause(
    tmp_path: Path, pretended: Path
) -> None:
    pods = [start(tmp_path, n, 2, str(pretended), RANK=str(n)) for n in range(2)]
    for number, pod in enumerate(pods):
        code, said, log = end(pod, tmp_path, number)
        assert (code, said["reason"]) == (70, "Stalled"), log
        assert said["message"].startswith("no progress for 4 s after step 3: rank 0 waits for the others, but rank 1")
        assert "data_loader_that_never_returns" in said["message"]
        kept = tmp_path / "output/.partial/stacks/attempt-3"
        assert kept.as_uri() in said["message"]
        assert "collective.py" in (kept / "rank-0.txt").read_text()
        assert "data_loader_that_never_returns" in (kept / "rank-1.txt").read_text()
        assert ("data_loader_that_never_returns" if number else "all_reduce") in log


def test_a_rank_that_is_stopped_is_named_by_those_that_are_not(tmp_path: Path, pretended: Path) -> None:
    pretended.write_text(PRETENDED.replace("time.sleep(1000)", "os.kill(os.getpid(), 19)"))
    pods = [start(tmp_path, n, 2, str(pretended), RANK=str(n)) for n in range(2)]
    for number, pod in enumerate(pods):
        code, said, log = end(pod, tmp_path, number)
        assert (code, said["reason"]) == (70, "Stalled"), log
        assert "rank 1 left no stacks" in said["message"]


def test_a_worker_that_asks_for_patience_is_given_it(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(
        textwrap.dedent("""
            import time
            from distillstages.common import worker
            metrics = worker.prepare("train")
            with metrics.patience(10):
                time.sleep(9)  # loading, compiling or saving
            metrics.set("step", 1)
        """)
    )
    code, said, log = end(start(tmp_path, 0, 1, str(worker), limit=3), tmp_path)
    assert (code, said["outcome"]) == (0, "Succeeded"), log


COLLECTIVE = """
import os, time
import torch, torch.distributed as dist
from distillstages.common import worker
metrics = worker.prepare("train")
metrics.set_patience(100)
dist.init_process_group("gloo")
def hold_everybody_up():
    time.sleep(1000)
for step in range(1, 6):
    if step == 4 and dist.get_rank() == 1:
        hold_everybody_up()
    dist.all_reduce(torch.ones(1))
    metrics.set("step", step)
    metrics.set_patience(1)
"""


def test_a_real_collective_in_which_one_rank_never_arrives_is_ended_and_explained(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(COLLECTIVE)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(worker))
    code, said, log = end(start(tmp_path, 0, 2, *torchrun, limit=20, OMP_NUM_THREADS="1"), tmp_path)
    assert (code, said["reason"]) == (70, "Stalled"), log
    assert "after step 3: rank 0 waits for the others, but rank 1 is in hold_everybody_up" in said["message"]
    assert sorted(path.name for path in (tmp_path / "output/.partial/stacks/attempt-3").iterdir()) == [
        "rank-0.txt",
        "rank-1.txt",
    ]
