"""The probe says what the stage would have said, without being the stage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from distillstages.common.artifacts import Output

REPOSITORY = Path(__file__).parents[2]
FINGERPRINT = "7e" * 32


def configuration(folder: Path, uid: str = "run-1") -> Path:
    config = {
        "apiVersion": "distillrun.dev/stage/v1",
        "stage": "train",
        "run": {"namespace": "team", "name": "later", "uid": uid},
        "fingerprint": FINGERPRINT,
        "attempt": 0,
        "output": (folder / "output").as_uri(),
        "train": {"student": {"uri": "file:///nowhere"}, "dataset": "file:///nowhere", "maxSteps": 1},
    }
    (folder / "stage.yaml").write_text(yaml.safe_dump(config))
    return folder / "stage.yaml"


def probe(folder: Path, config: Path) -> tuple[int, dict[str, Any]]:
    # torch is made impossible to import: the probe runs where there is none.
    (folder / "torch.py").write_text("raise ImportError('no torch here')")
    env = {
        **os.environ,
        "PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY / 'images'}",
        "DISTILLRUN_TERMINATION_LOG": str(folder / "termination"),
    }
    ended = subprocess.run([sys.executable, "-m", "distillstages.probe", "--config", str(config)], env=env)
    return ended.returncode, json.loads((folder / "termination").read_text())


def publish(folder: Path, uid: str, fingerprint: str = FINGERPRINT) -> None:
    output = Output(
        (folder / "output").as_uri(),
        stage="train",
        fingerprint=fingerprint,
        attempt=2,
        who="pod-9",
        run=uid,
        origin="team/earlier",
    )
    output.claim()
    output.publish({"steps": 6, "loss": 0.5}, {"model": "model/"})


def test_without_a_result_the_outcome_is_absent(tmp_path: Path) -> None:
    code, said = probe(tmp_path, configuration(tmp_path))
    assert (code, said["outcome"]) == (0, "Absent")
    assert "no result of the train stage" in said["message"]
    assert not (tmp_path / "output").exists()


def test_another_runs_result_is_told_as_that_runs(tmp_path: Path) -> None:
    publish(tmp_path, "run-0")
    code, said = probe(tmp_path, configuration(tmp_path))
    assert (code, said["outcome"]) == (0, "Succeeded")
    assert said["numbers"] == {"steps": 6, "loss": 0.5}
    assert said["artifact"] == (tmp_path / "output").as_uri() + "/"
    assert said["reusedFrom"] == "team/earlier"


def test_our_own_result_is_not_reused(tmp_path: Path) -> None:
    publish(tmp_path, "run-1")
    code, said = probe(tmp_path, configuration(tmp_path))
    assert (code, said["outcome"]) == (0, "Succeeded")
    assert "reusedFrom" not in said


def test_a_result_of_another_fingerprint_is_absent(tmp_path: Path) -> None:
    publish(tmp_path, "run-0", fingerprint="ab" * 32)
    assert probe(tmp_path, configuration(tmp_path))[1]["outcome"] == "Absent"


def test_a_configuration_that_is_wrong_ends_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "stage.yaml"
    path.write_text("stage: train")
    code, said = probe(tmp_path, path)
    assert (code, said["outcome"], said["reason"]) == (78, "Failed", "ConfigInvalid")
