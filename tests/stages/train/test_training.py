"""Real trainings on two ranks over gloo: tiny, but through torchrun, TRL and DeepSpeed ZeRO-3 with offload."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillstages.train import manifest
from distillstages.train.checkpoints import MARKER
from distillstages.train.report import read_steps
from tests.stages.train import worlds
from tests.stages.train.worlds import Pod

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1500)]

STEPS = 40
EVERY = 4
TWO_PODS = {"nodes": 2, "processesPerNode": 1, "masterAddress": "localhost", "masterPort": 29100 + os.getpid() % 300}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, student: Path, dataset: Path) -> Path:
    """The output folder of a training of two ranks in one pod that nothing happened to."""
    root = tmp_path_factory.mktemp("undisturbed")
    pod = Pod(root, worlds.configuration(root, student, dataset, **long_training()))
    assert pod.end() == 0, pod.words()
    (root / "numbers.json").write_text(json.dumps(dict(pod.termination.numbers)))
    return root / "output"


def long_training(**changes: Any) -> dict[str, Any]:
    return {"maxSteps": STEPS, "checkpoint": {"everySteps": EVERY, "keep": 2}, **changes}


def wait_for(what: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def losses(output: Path) -> dict[int, float]:
    return {step: row["loss"] for step, row in read_steps(output / "metrics.jsonl").items()}


def whole_checkpoints(output: Path) -> list[int]:
    return sorted(int(path.parent.name.split("-")[1]) for path in output.glob(f"checkpoints/checkpoint-*/{MARKER}"))


def test_a_training_publishes_its_model_last_and_reports_its_numbers(undisturbed: Path) -> None:
    result = json.loads((undisturbed / "result.json").read_text())
    numbers = json.loads((undisturbed.parent / "numbers.json").read_text())
    steps = read_steps(undisturbed / "metrics.jsonl")

    assert result["outputs"]["model"] == "model/"
    assert result["numbers"] == numbers
    assert numbers["steps"] == STEPS
    assert numbers["examples"] == 60
    assert numbers["resumedFromStep"] is None
    assert (numbers["dropped"], numbers["truncated"]) == (0, 0)
    assert numbers["tokens"] == sum(row["tokens"] for row in steps.values())
    assert list(steps) == list(range(1, STEPS + 1))
    assert set(steps[1]) == {"step", "loss", "gradNorm", "learningRate", "tokens", "time", "attempt", "claim"}
    assert losses(undisturbed)[STEPS] < losses(undisturbed)[1] / 2
    assert whole_checkpoints(undisturbed) == [STEPS - 2 * EVERY, STEPS - EVERY]
    assert not list(undisturbed.glob("checkpoints/.partial*"))


def test_the_final_model_loads_generates_and_ends_its_turns(undisturbed: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(undisturbed / "model")
    model = AutoModelForCausalLM.from_pretrained(undisturbed / "model")
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "123+456=?"}], add_generation_prompt=True, return_tensors="pt", return_dict=False
    )
    with torch.no_grad():
        answer = model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]

    assert tokenizer.decode(answer).startswith("<think>\n")
    assert tokenizer.convert_ids_to_tokens(model.generation_config.eos_token_id) == "<|im_end|>"
    assert model.generation_config.pad_token_id != model.generation_config.eos_token_id
    assert (undisturbed / "model" / "model.safetensors").stat().st_mode & 0o040, "the group cannot read it"


# `make test` kills a rank in tests/e2e/test_run.py, in a real pod.
@pytest.mark.full
def test_a_pod_that_is_killed_costs_nothing_but_the_steps_since_the_checkpoint(
    tmp_path: Path, student: Path, dataset: Path, undisturbed: Path
) -> None:
    output = tmp_path / "output"
    train = long_training(distributed=TWO_PODS)

    # Attempt 1: the second pod is killed outright once there is a checkpoint.
    config = worlds.configuration(tmp_path, student, dataset, **train)
    first, second = (Pod(tmp_path, config, index=index) for index in (0, 1))
    wait_for(lambda: bool(whole_checkpoints(output)))
    os.killpg(second.process.pid, signal.SIGKILL)
    victim = second.rank_pid(1)
    assert victim is not None
    kill_tree(victim)
    second.end()
    assert first.end() == 76, first.words()
    assert first.termination.reason == "PeerLost"
    reached = whole_checkpoints(output)[-1]
    assert reached < STEPS

    # Attempt 2: the first pod alone is asked to stop; both save a checkpoint after the same step.
    config = worlds.configuration(tmp_path, student, dataset, attempt=2, **train)
    first, second = (Pod(tmp_path, config, index=index) for index in (0, 1))
    wait_for(lambda: any(row["attempt"] == 2 for row in read_steps(output / "metrics.jsonl").values()))
    first.process.send_signal(signal.SIGTERM)
    assert first.end() == 143, first.words()
    assert first.termination.reason == "Terminated"
    assert second.end() == 76, second.words()
    stopped = max(losses(output))
    assert reached < stopped < STEPS
    assert whole_checkpoints(output)[-1] == stopped

    # Attempt 3 completes.
    config = worlds.configuration(tmp_path, student, dataset, attempt=3, **train)
    first, second = (Pod(tmp_path, config, index=index) for index in (0, 1))
    assert (first.end(), second.end()) == (0, 0), first.words()

    assert first.termination.numbers["resumedFromStep"] == stopped
    assert {row["attempt"] for row in read_steps(output / "metrics.jsonl").values()} >= {1, 2, 3} - {1}
    expected = losses(undisturbed)
    assert losses(output).keys() == expected.keys()
    assert max(abs(loss - expected[step]) for step, loss in losses(output).items()) <= 1e-5


def kill_tree(process: int) -> None:
    """SIGKILL to a rank and to its launcher, which lie in a process group of their own."""
    group = os.getpgid(process)
    os.killpg(group, signal.SIGKILL)
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        pass


def test_accumulation_changes_nothing_in_the_loss_of_unequal_sequences(
    tmp_path: Path, student: Path, dataset: Path, undisturbed: Path
) -> None:
    train = long_training(maxSteps=5, schedule="Constant", warmupRatio=0.0)
    found = []
    layouts: dict[str, dict[str, Any]] = {
        "two ranks, four micro batches": {"microBatchSize": 1},
        "one rank, one batch": {"microBatchSize": 8, "distributed": {"nodes": 1, "processesPerNode": 1}},
    }
    for name, changes in layouts.items():
        root = tmp_path / name.split(",")[0].replace(" ", "-")
        pod = Pod(root, worlds.configuration(root, student, dataset, **train, **changes))
        assert pod.end() == 0, pod.words()
        found.append(losses(root / "output"))

    assert found[0].keys() == found[1].keys()
    assert max(abs(found[0][step] - found[1][step]) for step in found[0]) <= 1e-4


@pytest.mark.parametrize("damage", ["missing", "short", "empty", "a bit"])
def test_damage_to_any_file_of_a_real_checkpoint_is_seen_by_the_rank_that_wrote_it(
    damage: str, tmp_path: Path, undisturbed: Path
) -> None:
    (newest,) = undisturbed.glob(f"checkpoints/checkpoint-{STEPS - EVERY}-*")
    files = json.loads((newest / MARKER).read_text())["files"]
    on_disk = {p.relative_to(newest).as_posix() for p in newest.rglob("*") if p.is_file()}
    assert files.keys() == on_disk - {MARKER}
    assert {manifest.owner(name, 2) for name in files} == {0, 1}

    for number, name in enumerate(files):
        copy = tmp_path / str(number)
        shutil.copytree(newest, copy)
        assert [manifest.check(copy, files, rank, 2) for rank in (0, 1)] == [[], []]
        spoil(copy / name, damage)
        found = [manifest.check(copy, files, rank, 2, look_again_seconds=()) for rank in (0, 1)]
        owner = manifest.owner(name, 2)
        assert [complaint.split()[0] for complaint in found[owner]] == [name]
        assert found[1 - owner] == []


def spoil(path: Path, damage: str) -> None:
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
        return
    data[len(data) // 2] ^= damage == "a bit"
    path.write_bytes({"short": data[:-1], "empty": b"", "a bit": data}[damage])


# `make test` has the parts of it: the test above, and which checkpoint is chosen (test_checkpoints.py).
@pytest.mark.full
def test_with_the_newest_checkpoint_damaged_training_goes_on_from_the_one_before_it(
    tmp_path: Path, student: Path, dataset: Path, undisturbed: Path
) -> None:
    output = tmp_path / "output"
    shutil.copytree(undisturbed / "checkpoints", output / "checkpoints")
    (newest,) = output.glob(f"checkpoints/checkpoint-{STEPS - EVERY}-*")
    spoil(next(newest.glob("global_step*/*zero_pp_rank_1_*optim_states.pt")), "short")

    pod = Pod(tmp_path, worlds.configuration(tmp_path, student, dataset, attempt=2, **long_training()))

    assert pod.end() == 0, pod.words()
    assert "damaged checkpoint set aside" in pod.words()
    numbers = pod.termination.numbers
    assert (numbers["resumedFromStep"], numbers["damagedCheckpoints"]) == (STEPS - 2 * EVERY, 1)
    assert whole_checkpoints(output) == [STEPS - 2 * EVERY, STEPS - EVERY]
    assert not list(output.glob("checkpoints/damaged-*")), "as many steps are in a good one now"
    found, expected = losses(output), losses(undisturbed)
    assert list(found) == list(range(STEPS - 2 * EVERY + 1, STEPS + 1))
    assert max(abs(loss - expected[step]) for step, loss in found.items()) <= 1e-5
