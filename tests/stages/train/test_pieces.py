"""The small parts around the training loop."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distillstages.common.artifacts import Output
from distillstages.common.exit import ConfigFault, DataFault, Fault, PeerLost, Temporary
from distillstages.common.metrics import Metrics
from distillstages.common.progress import Progress
from distillstages.train import arguments, dataset, deepspeed_config, launch, plan, ranks
from distillstages.train.report import Report, StepLog, read_steps
from tests.stages.train import worlds
from tests.stages.train.test_plan import settings

pytestmark = pytest.mark.heavy


def test_the_curated_rows_are_read_in_order(tmp_path: Path) -> None:
    folder = worlds.save_dataset(tmp_path / "curated", count=3)

    rows = list(dataset.read_rows(folder.as_uri() + "/"))

    assert [row["id"] for row in rows] == ["row-000", "row-001", "row-002"]
    assert set(rows[0]) == {"id", "question", "thinking", "response"}


def test_a_dataset_that_no_curation_completed_is_refused(tmp_path: Path) -> None:
    folder = worlds.save_dataset(tmp_path / "curated")
    (folder / "result.json").unlink()

    with pytest.raises(DataFault, match="no curation has completed there") as caught:
        list(dataset.read_rows(folder.as_uri()))

    assert caught.value.reason == "DatasetNotFound"


def test_a_dataset_without_a_column_or_without_parquet_names_the_file(tmp_path: Path) -> None:
    folder = worlds.save_dataset(tmp_path / "curated", [{"id": "1", "question": "2+2=?"}])
    with pytest.raises(DataFault, match=r"part-00000.parquet: there is no column thinking, found id, question"):
        list(dataset.read_rows(folder.as_uri()))

    (folder / "dataset" / "part-00000.parquet").write_text("not parquet")
    with pytest.raises(DataFault, match=r"part-00000.parquet: not a Parquet file"):
        list(dataset.read_rows(folder.as_uri()))


@pytest.mark.parametrize(
    "message",
    [
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.1.0.7]:31022",
        "Rank 0 successfully reached monitoredBarrier, but received errors: read: Connection reset by peer",
        "[pair.cc:534] Application timeout caused pair closure: Timed out waiting 1800000ms for recv operation",
        "NCCL Error 6: remote process exited or there was a network error",
    ],
)
def test_a_broken_connection_between_ranks_is_a_lost_peer(message: str) -> None:
    lost = ranks.lost_peer(RuntimeError(message))

    assert lost is not None
    assert message in str(lost)


def test_a_lost_peer_is_found_behind_other_errors() -> None:
    error = ValueError("while handling it")
    error.__context__ = RuntimeError("Connection closed by peer")

    assert ranks.lost_peer(error) is not None


def test_a_fault_of_our_own_is_no_lost_peer() -> None:
    assert ranks.lost_peer(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert ranks.lost_peer(KeyError("Connection closed by peer")) is None


def test_the_wait_for_the_first_pod_is_bounded_and_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def resolve(host: str, *_: Any) -> None:
        tried.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    times = iter(range(0, 1000, 100))
    with pytest.raises(PeerLost) as caught:
        launch.wait_for_name("s1-train-0.s1", seconds=300, pause=0, clock=lambda: float(next(times)))

    assert "no address after 300 s: the name s1-train-0.s1 does not resolve (Name or service not known)" in str(
        caught.value
    )
    assert len(tried) == 4


def test_the_wait_ends_when_the_name_resolves(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([socket.gaierror(-2, "no"), socket.gaierror(-2, "no"), None])

    def resolve(*_: Any) -> None:
        answer = next(answers)
        if answer:
            raise answer

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    launch.wait_for_name("s1-train-0.s1", pause=0)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process group of one rank, in this process: SFTConfig asks for it."""
    import torch.distributed

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in group.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    ranks.begin(on_gpu=False)
    yield
    torch.distributed.destroy_process_group()


def sft_arguments(tmp_path: Path, **changes: Any) -> Any:
    train = settings(precision="FP32", maxSteps=10, **changes)
    batches = plan.split_batch(train)
    deepspeed = deepspeed_config.build(train, batches, on_gpu=False)
    return arguments.build(train, batches, deepspeed, folder=tmp_path, seed=3, on_gpu=False)


def test_trl_never_cuts_packs_or_prepares_anything(alone: None, tmp_path: Path) -> None:
    built = sft_arguments(tmp_path)

    assert built.max_length is None
    assert built.packing is False
    assert built.dataset_kwargs == {"skip_prepare_dataset": True}
    assert built.gradient_checkpointing_kwargs == {"use_reentrant": False}
    assert built.get_warmup_steps(100) == 5


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ({"max_length": 1024}, "trainerArgs must not set max_length"),
        ({"packing": True}, "trainerArgs must not set packing"),
        ({"learning_rate": 1.0}, "trainerArgs must not set learning_rate"),
        ({"neftune_noise_alfa": 5}, "SFTConfig has no field neftune_noise_alfa, did you mean neftune_noise_alpha?"),
        ({"logging_dir_": 1}, "SFTConfig has no field logging_dir_"),
        ({"lr_scheduler_kwargs": "{"}, "trainerArgs {'lr_scheduler_kwargs': '{'}"),
    ],
)
def test_trainer_arguments_that_cannot_be_are_refused(
    alone: None, tmp_path: Path, raw: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigFault) as caught:
        sft_arguments(tmp_path, trainerArgs=raw)

    assert sentence in str(caught.value)


def test_other_trainer_arguments_are_passed_on(alone: None, tmp_path: Path) -> None:
    assert sft_arguments(tmp_path, trainerArgs={"neftune_noise_alpha": 5}).neftune_noise_alpha == 5


def reporter(tmp_path: Path, stopping: threading.Event, tokens: list[int]) -> Report:
    import torch

    metrics = Metrics(tmp_path)
    output = Output(tmp_path.as_uri(), stage="train", fingerprint="7e" * 32, attempt=2)
    log = StepLog(output, metrics, Progress(metrics, unit="steps", total=10))
    return Report(stopping, lambda: tokens[0], log=log, metrics=Metrics(), device=torch.device("cpu"))


def state(step: int) -> Any:
    return SimpleNamespace(global_step=step, max_steps=10)


def control() -> Any:
    return SimpleNamespace(should_save=False, should_training_stop=False)


def test_an_attempt_that_was_overtaken_learns_it_from_its_log_within_half_a_minute(tmp_path: Path) -> None:
    now = [0.0]
    stale, newer = (
        Output(tmp_path.as_uri(), stage="train", fingerprint="7e" * 32, attempt=attempt) for attempt in (1, 2)
    )
    metrics = Metrics()

    def log_of(output: Output) -> StepLog:
        return StepLog(output, metrics, Progress(metrics, unit="steps", total=9), clock=lambda: now[0])

    def step(log: StepLog, number: int, loss: float) -> None:
        log.step(number, loss=loss, gradient_norm=1.0, learning_rate=1e-3, tokens=10, seconds=1.0)

    stale.claim()
    late = log_of(stale)
    step(late, 1, 1.0)
    newer.claim()
    step(log_of(newer), 2, 2.0)
    step(late, 2, 1.0)  # it does not know yet

    now[0] = 30.0
    with pytest.raises(Temporary):
        step(late, 3, 1.0)
    assert {number: row["loss"] for number, row in read_steps(tmp_path / "metrics.jsonl").items()} == {1: 1.0, 2: 2.0}


def test_each_step_is_a_line_and_gauges(tmp_path: Path) -> None:
    tokens = [0]
    report = reporter(tmp_path, threading.Event(), tokens)
    for step, total in ((1, 100), (2, 250)):
        tokens[0] = total
        report.on_step_end(None, state(step), control())
        report.on_log(None, state(step), control(), {"loss": 2.5, "grad_norm": 1.5, "learning_rate": 1e-3})
    report.on_log(None, state(2), control(), {"train_runtime": 3.0})

    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["tokens"], line["attempt"]) for line in lines] == [(1, 100, 2), (2, 150, 2)]
    assert report.log is not None
    assert report.log.tokens() == 250
    metrics = report.log.metrics
    assert (metrics.get("loss"), metrics.get("gradient_norm"), metrics.get("learning_rate")) == (2.5, 1.5, 1e-3)
    assert metrics.get("progress_done") == 2
    assert (metrics.get("tokens_per_second") or 0) > 0


def test_a_resumed_run_counts_each_step_once_and_skips_a_broken_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step":1,"tokens":5,"attempt":1}\n{"step":2,"tokens":5,"attempt":1}\n{"step":2,"tok')
    with path.open("a") as file:
        file.write('\n{"step":2,"tokens":7,"attempt":2}\n')

    assert {step: row["tokens"] for step, row in read_steps(path).items()} == {1: 5, 2: 7}


def test_being_asked_to_stop_saves_after_the_step_and_ends(tmp_path: Path) -> None:
    stopping = threading.Event()
    report = reporter(tmp_path, stopping, [0])
    calm, asked, last = control(), control(), control()

    report.on_step_end(None, state(1), calm)
    stopping.set()
    report.on_step_end(None, state(2), asked)

    assert (calm.should_save, calm.should_training_stop) == (False, False)
    assert (asked.should_save, asked.should_training_stop) == (True, True)
    assert report.stopped
    other = reporter(tmp_path, stopping, [0])
    last.should_save = True
    other.on_step_end(None, state(10), last)
    assert (last.should_save, other.stopped) == (False, False), "the last step goes on to save the model"


def test_a_loss_that_is_not_a_number_ends_the_training(tmp_path: Path) -> None:
    report = reporter(tmp_path, threading.Event(), [0])

    with pytest.raises(Fault, match="the loss is nan at step 3"):
        report.on_log(None, state(3), control(), {"loss": float("nan"), "grad_norm": 1.0})

    assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss"] is None
