"""Which arguments and which model folders are accepted."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import fsspec
import pytest

from distillstages.common.engine import Launch
from distillstages.common.enginemodel import EngineModel, check_arguments, resolve
from distillstages.common.exit import ConfigFault, DataFault
from tests.stages.engines.stages import make_model
from tests.stages.fake_hub import SHA, hub_cache


@pytest.mark.parametrize(
    "argument",
    [
        *("--port", "--port=1", "--host", "--model=x", "--api-key=k", "--api_key", "--served-model-name", "--uds=/s"),
        *("--served_model_name=x", "--por", "--mod", "--ho=x", "-tp", "-tp=2", "--tensor-parallel-size", "--revision"),
        *("--max-model-len", "--max_model_len=9", "--ssl-keyfile", "--config", "--headless", "--grpc", "--root-path"),
        "--shutdown-timeout=1",
        "--",
    ],
)
def test_an_argument_that_belongs_to_the_run_is_refused_by_name(argument: str) -> None:
    with pytest.raises(ConfigFault) as caught:
        check_arguments(["--enforce-eager", argument])
    assert repr(argument) in caught.value.message
    assert caught.value.message.endswith("Remove it")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--enforce-eager"],
        ["--dtype", "float32", "--max-num-seqs=8"],
        ["--gpu-memory-utilization", "0.9", "--api-server-count", "2", "--enable-prefix-caching"],
        ["--compilation-config.mode", "0", "--seed=1", "-O0"],
        ["--chat-template", "/mnt/x.jinja", "--reasoning-parser=qwen3"],
    ],
)
def test_other_arguments_are_passed_on(arguments: list[str]) -> None:
    check_arguments(arguments)
    launch = Launch(EngineModel("/m"), "s", user_arguments=arguments)
    given = launch.arguments(8000)
    assert given == ["/m", "--host", "127.0.0.1", "--port", "8000", "--served-model-name", "s", *arguments]


def test_a_word_in_front_would_be_taken_for_the_model() -> None:
    with pytest.raises(ConfigFault, match="expected an option: the model is given by the run"):
        check_arguments(["other/model"])


@pytest.mark.parametrize(
    ("uri", "revision", "expected"),
    [
        ("hf://Qwen/Qwen2.5-32B-Instruct", None, EngineModel("Qwen/Qwen2.5-32B-Instruct", None, False)),
        ("hf://Qwen/Qwen2.5-32B-Instruct", "abc", EngineModel("Qwen/Qwen2.5-32B-Instruct", "abc", False)),
        ("hf://Qwen/Qwen2.5-32B-Instruct@v1", None, EngineModel("Qwen/Qwen2.5-32B-Instruct", "v1", False)),
        ("hf://models/a/b@v1", "pinned", EngineModel("a/b", "pinned", False)),
    ],
)
def test_a_hub_model_is_given_with_its_revision(uri: str, revision: str | None, expected: EngineModel) -> None:
    assert resolve("m", uri, revision) == expected
    if expected.revision:
        assert Launch(expected, "s").arguments(1)[-2:] == ["--revision", expected.revision]


def test_a_folder_is_given_as_a_path(tmp_path: Path) -> None:
    model = make_model(tmp_path / "with a blank")
    assert resolve("m", model.uri, None) == EngineModel(str(model.folder))


def test_a_chat_template_may_stand_in_the_tokenizer_s_configuration(tmp_path: Path) -> None:
    model = make_model(tmp_path / "m")
    (model.folder / "chat_template.jinja").unlink()
    (model.folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    resolve("m", model.uri, None)


@pytest.mark.parametrize(
    ("file", "reason", "words"),
    [
        ("config.json", "ModelNotFound", "holds no config.json"),
        ("model.safetensors", "ModelNotFound", "holds no weights"),
        ("tokenizer.json", "StudentNoTokenizer", "holds no tokenizer, expected one of tokenizer.json"),
        ("chat_template.jinja", "NoChatTemplate", "has no chat template"),
    ],
)
def test_a_folder_that_lacks_a_part_is_refused(tmp_path: Path, file: str, reason: str, words: str) -> None:
    model = make_model(tmp_path / "m")
    (model.folder / file).unlink()
    with pytest.raises(DataFault) as caught:
        resolve("student", model.uri, None)
    assert caught.value.reason == reason
    assert words in caught.value.message
    assert str(model.folder) in caught.value.message


def test_a_model_of_the_hub_is_given_as_a_folder_of_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(tmp_path / "m")
    files = {path.name: path.read_bytes() for path in model.folder.iterdir() if path.is_file()}
    snapshot = hub_cache(tmp_path / "hub", "owner/model", files, kind="models")
    monkeypatch.setenv("DISTILLRUN_MIRROR", (tmp_path / "hub").as_uri())
    assert resolve("base", "hf://owner/model", SHA) == EngineModel(str(snapshot))


def test_a_place_that_vllm_cannot_load_from_is_refused() -> None:
    with pytest.raises(ConfigFault, match=r"gs://bucket/m cannot be served, expected file:// or s3://"):
        resolve("m", "gs://bucket/m", None)


def test_a_model_in_an_object_store_is_copied_and_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = make_model(tmp_path / "m")
    (model.folder / "tokenizer.json").unlink()
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda uri: (fsspec.filesystem("file"), str(model.folder)))
    with pytest.raises(DataFault, match="holds no tokenizer"):
        resolve("base", "s3://bucket/m", None)
    whole = make_model(tmp_path / "whole")
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda uri: (fsspec.filesystem("file"), str(whole.folder)))
    copied = resolve("base", "s3://bucket/whole", None)
    assert copied.is_local
    assert Path(copied.argument).parent == tmp_path
    assert (Path(copied.argument) / "config.json").read_bytes() == (whole.folder / "config.json").read_bytes()
