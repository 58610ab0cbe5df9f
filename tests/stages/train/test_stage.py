"""The stage as a pod runs it, where something is wrong or unusual."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distillstages.common import traceformat
from tests.stages.train import worlds
from tests.stages.train.test_training import long_training, losses, whole_checkpoints
from tests.stages.train.worlds import Pod

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]


def test_a_batch_that_does_not_divide_ends_the_stage_as_wrong_configuration(
    tmp_path: Path, student: Path, dataset: Path
) -> None:
    pod = Pod(tmp_path, worlds.configuration(tmp_path, student, dataset, globalBatchSize=9))

    assert pod.end() == 78, pod.words()
    assert pod.termination.reason == "BatchNotDivisible"
    assert "set globalBatchSize to 8 or 12" in (pod.termination.message or "")


def test_a_complete_training_ends_at_once_with_the_same_numbers(tmp_path: Path, student: Path, dataset: Path) -> None:
    config = worlds.configuration(tmp_path, student, dataset, attempt=2)
    numbers = {"steps": 6, "loss": 0.5}
    result = {"apiVersion": "distillrun.dev/result/v1", "stage": "train", "fingerprint": worlds.FINGERPRINT}
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "result.json").write_text(
        json.dumps({**result, "attempt": 1, "outputVersion": 1, "numbers": numbers, "outputs": {"model": "model/"}})
    )

    pod = Pod(tmp_path, config)

    assert pod.end() == 0, pod.words()
    assert dict(pod.termination.numbers) == numbers
    assert not (tmp_path / "output" / "ledger").exists()


def test_a_student_without_tokenizer_ends_all_ranks_with_one_sentence(
    tmp_path: Path, student: Path, dataset: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((student / name).read_bytes())

    pod = Pod(tmp_path, worlds.configuration(tmp_path, bare, dataset))

    assert pod.end() == 65, pod.words()
    assert pod.termination.reason == "StudentNoTokenizer"
    assert "Traceback" not in (pod.termination.message or "")


def test_the_recipes_settings_train_without_a_gpu_too(tmp_path: Path, student: Path, dataset: Path) -> None:
    """bf16, gradient checkpointing, accumulation, a mean by sequence, a trace format with a system prompt."""
    settings: dict[str, Any] = {
        "precision": "BF16",
        "gradientCheckpointing": True,
        "lossNormalization": "Sequence",
        "microBatchSize": 1,
        "globalBatchSize": 4,
        "maxSteps": 5,
        "maxSequenceLength": 2048,
        "traceFormat": "SkyT1",
        "trainerArgs": {"neftune_noise_alpha": 0.1},
    }
    pod = Pod(tmp_path, worlds.configuration(tmp_path, student, dataset, **settings))
    assert pod.end() == 0, pod.words()

    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = losses(tmp_path / "output")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "output" / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "output" / "model")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1+1=?"}], add_generation_prompt=True, tokenize=False
    )
    assert found[5] < found[1]
    assert str(model.dtype) == "torch.bfloat16"
    assert (traceformat.default_system_prompt("SkyT1") or "missing") in prompt


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one and a half checkpoints of the tiny student."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "distillrun-test", folder], check=False)
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


# `make test` has the full disk of tests/stages/train/test_checkpoints.py.
@pytest.mark.full
def test_a_disk_that_fills_up_while_saving_is_said_and_the_earlier_checkpoint_stays(
    small_disk: Path, student: Path, dataset: Path
) -> None:
    config = worlds.configuration(small_disk, student, dataset, **long_training(maxSteps=12))

    pod = Pod(small_disk.parent, config)

    assert pod.end() == 65, pod.words()
    assert pod.termination.reason == "DiskFull"
    assert "enlarge" in (pod.termination.message or "")
    assert whole_checkpoints(small_disk / "output") == [4]
