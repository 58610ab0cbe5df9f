from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from distillstages.common.blocks import Student
from distillstages.common.exit import DataFault
from distillstages.demo import pupil
from distillstages.train import student as students
from tests.stages.fake_hub import SHA, hub_cache
from tests.stages.train import worlds

pytestmark = pytest.mark.heavy


def test_a_student_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "nobody"

    with pytest.raises(DataFault) as caught:
        students.fetch(Student(uri=missing.as_uri()))

    assert caught.value.reason == "StudentNotFound"
    assert f"student {missing.as_uri()}: there is no such folder" in str(caught.value)


def test_a_folder_without_a_model_says_what_lies_there(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("")

    with pytest.raises(DataFault, match=r"found holiday\.jpg, expected a model folder with config\.json") as caught:
        students.fetch(Student(uri=tmp_path.as_uri()))

    assert caught.value.reason == "StudentNotFound"


def test_a_student_in_an_object_store_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = fsspec.filesystem("memory")
    store.pipe_file("/models/tiny/config.json", b"{}")
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda uri: (store, "/models/tiny"))

    folder = students.fetch(Student(uri="s3://models/tiny"))

    assert (folder / "config.json").read_text() == "{}"


def test_a_student_of_the_hub_is_read_from_the_mirror_at_the_commit_that_was_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = hub_cache(tmp_path, "owner/model", {"config.json": b"{}"}, kind="models")
    monkeypatch.setenv("DISTILLRUN_MIRROR", tmp_path.as_uri())

    assert students.fetch(Student(uri="hf://owner/model", revision=SHA)) == snapshot
    with pytest.raises(DataFault, match=f"the mirror {tmp_path.as_uri()} has no model owner/model at {'f' * 40}"):
        students.fetch(Student(uri="hf://owner/model", revision="f" * 40))


def test_a_student_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))

    with pytest.raises(DataFault) as caught:
        students.load_conversation(tmp_path, "file:///student", None)

    assert caught.value.reason == "StudentNoTokenizer"
    assert "student file:///student: the folder has no tokenizer" in str(caught.value)


def test_a_tokenizer_that_is_garbage_is_refused_with_a_sentence(tmp_path: Path) -> None:
    worlds.save_tokenizer(tmp_path, pupil.make_tokenizer())
    (tmp_path / "tokenizer.json").write_text("{ not a tokenizer")

    with pytest.raises(DataFault) as caught:
        students.load_conversation(tmp_path, "file:///student", None)

    assert caught.value.reason == "StudentNoTokenizer"


def test_a_tokenizer_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    worlds.save_tokenizer(tmp_path, pupil.make_tokenizer(), chat_template=None)

    with pytest.raises(DataFault) as caught:
        students.load_conversation(tmp_path, "file:///student", None)

    assert caught.value.reason == "NoChatTemplate"


@pytest.mark.parametrize(
    ("existing", "expected"), [(None, 258), (258, 258), (256, [258, 256]), ([256, 258], [258, 256])]
)
def test_generation_ends_at_the_end_of_turn_and_where_it_did_before(
    tmp_path: Path, existing: Any, expected: Any
) -> None:
    talk = students.load_conversation(worlds.save_tokenizer(tmp_path, pupil.make_tokenizer()), "file:///s", None)

    assert students.generation_settings(talk, existing) == {"eos_token_id": expected, "pad_token_id": talk.padding}
