"""`python -m distillrun estimate`: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from distillrun.__main__ import main
from distillrun.cli import knownmodels
from tests.unit.builders import spec
from tests.unit.plan.students import H100


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    return write(tmp_path)


def write(folder: Path, uri: str = "hf://Qwen/Qwen2.5-32B-Instruct", **train: Any) -> Path:
    """Sky-T1 as a file."""
    block = {"gpusPerNode": 8, "globalBatchSize": 96, "maxSequenceLength": 16384, **train}
    document = {
        "apiVersion": "distillrun.dev/v1alpha1",
        "kind": "DistillRun",
        "metadata": {"name": "sky"},
        "spec": spec(student={"model": {"uri": uri}}, budget={"gpuHourPrice": "2.96"}, train=block),
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump_all([{"kind": "ConfigMap"}, document]))
    return path


def test_a_run_that_fits_is_printed_with_its_time_its_cost_and_what_is_assumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, pod={"resources": {"limits": {"memory": "1700Gi"}}})
    options = ["--gpu-product", H100, "--examples", "17000", "--tokens", "76_500_000"]
    assert main(["estimate", str(path), *options]) == 0
    out = capsys.readouterr().out
    for words in ("sky: hf://Qwen/Qwen2.5-32B-Instruct, 32.76 B parameters, on 1 × 8 GPUs", "True (Fits)", "534 steps"):
        assert words in out
    for words in (
        "USD at 2.96 a GPU-hour",
        "Method    Steps of",
        "Assumed   hf://Qwen/Qwen2.5-32B-Instruct has the dim",
    ):
        assert words in out


def test_a_run_that_does_not_fit_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, deepspeed={"offloadOptimizer": False, "offloadParameters": False})
    assert main(["estimate", str(path), "--gpu-product", H100]) == 1
    out = capsys.readouterr().out
    assert "Feasible  False (GpuMemory)" in out
    assert "offloadOptimizer: true" in out


def test_as_json_the_same_numbers_are_for_programs(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--gpu-product", H100, "--examples", "17000", "--tokens", "76500000", "--json"]
    assert main(["estimate", str(run_file), *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["feasible"]["reason"] == "HostMemoryUnknown"
    assert report["training"]["steps"] == 534
    assert report["bytes"]["gpu"]["total"] == sum(report["bytes"]["gpu"]["parts"].values())
    assert float(report["training"]["amount"]) > 100


def test_what_is_not_known_is_named_with_its_option(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", str(run_file)]) == 0
    out = capsys.readouterr().out
    for option in ("--gpu-product", "--examples", "--tokens"):
        assert option in out


def test_a_price_that_is_not_known_leaves_the_cost_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace("gpuHourPrice: '2.96'", "currency: EUR"))
    options = ["--gpu-product", H100, "--examples", "10", "--tokens", "1000"]
    assert main(["estimate", str(path), *options]) == 0
    assert "Cost      not known without a price" in capsys.readouterr().out
    assert main(["estimate", str(path), *options, "--gpu-hour-price", "1.5"]) == 0
    assert "EUR at 1.5 a GPU-hour" in capsys.readouterr().out


def test_a_students_own_config_counts_where_it_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(knownmodels.config("Qwen/Qwen2.5-7B")))
    path = write(tmp_path, uri="s3://bucket/student")
    assert main(["estimate", str(path)]) == 0
    assert "(StudentUnknown)" in capsys.readouterr().out
    assert main(["estimate", str(path), "--model-config", str(config)]) == 0
    assert "7.62 B parameters" in capsys.readouterr().out
    assert main(["estimate", str(write(tmp_path, uri=tmp_path.as_uri()))]) == 0
    assert "7.62 B parameters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("kind: [", "is no YAML"),
        ("kind: ConfigMap", "holds 0 objects of kind DistillRun, expected one"),
        ("kind: DistillRun", "spec: input should be"),
        ("kind: DistillRun\nspec: {train: {nodes: 0}}", "spec.train.nodes: input should be greater than or equal to 1"),
        ("\x00", "is no YAML"),
    ],
)
def test_a_file_that_is_wrong_ends_with_2_and_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, words: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    assert main(["estimate", str(path)]) == 2
    assert words in capsys.readouterr().err


def test_a_file_that_is_not_there_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", str(tmp_path / "none.yaml")]) == 2
    assert "No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"globalBatchSize": 12}, "globalBatchSize 12 is not a multiple of microBatchSize 1 × 8 GPUs"),
        ({"deepspeed": {"zeroStage": 2}}, "offloadParameters needs zeroStage 3, it is 2"),
    ],
)
def test_a_spec_that_the_api_server_would_refuse_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], train: dict[str, Any], words: str
) -> None:
    assert main(["estimate", str(write(tmp_path, **train))]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"model_type": "qwen2"}', '{"model_type": "qwen2", "hidden_size": "x"}']
)
def test_a_config_that_is_wrong_ends_with_2(
    tmp_path: Path, run_file: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    config = tmp_path / "config.json"
    config.write_text(content)
    assert main(["estimate", str(run_file), "--model-config", str(config)]) == 2
    assert "config.json: " in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--gpu-hour-price", "cheap"], ["--gpu-hour-price", "-1"]])
def test_a_price_that_is_no_number_ends_with_2(
    run_file: Path, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    assert main(["estimate", str(run_file), *option]) == 2
    assert "--gpu-hour-price is" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--tokens", "many"], ["--examples", "0"], ["--nonsense"]])
def test_an_option_that_is_wrong_ends_with_2(run_file: Path, option: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["estimate", str(run_file), *option])
