"""Questions on a hub: a repository as a whole, one file of it, and one that is not there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.stages.curate.conftest import additions
from tests.stages.curate.fake_teacher import FakeTeacher
from tests.stages.fake_hub import SHA, FakeHub, hub_cache

FILES = {
    "README.md": b"---\nlicense: mit\n---\n",
    "data/train.jsonl": "".join(json.dumps(row) + "\n" for row in additions(6)).encode(),
    "data/test.jsonl": b'{"question": "never asked", "answer": "1"}\n',
}


@pytest.mark.parametrize(
    ("uri", "count"),
    [("hf://datasets/owner/sums/data/train.jsonl", 6), ("hf://datasets/owner/sums", 6)],
)
def test_questions_are_read_from_a_hub(make_stage: Any, uri: str, count: int) -> None:
    with FakeTeacher() as teacher, FakeHub("owner/sums", FILES) as hub:
        stage = make_stage(teacher.url, sources=[{"name": "hub", "uri": uri, "split": "train"}])
        stage.environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(stage.folder / "hf"), "HF_HUB_DISABLE_XET": "1"}
        finished = stage.run()
        assert finished.code == 0, (finished.log, hub.seen)
    assert finished.numbers["accepted"] == count
    assert [r["question"] for r in stage.rows()] == [row["question"] for row in additions(6)]


@pytest.mark.parametrize("uri", ["hf://datasets/owner/sums/data/train.jsonl", "hf://datasets/owner/sums"])
def test_with_a_mirror_questions_are_read_there_and_it_is_recorded(make_stage: Any, uri: str) -> None:
    with FakeTeacher() as teacher:
        stage = make_stage(teacher.url, sources=[{"name": "hub", "uri": uri, "split": "train", "revision": SHA}])
        hub_cache(stage.folder / "hub", "owner/sums", FILES)
        stage.mirror = (stage.folder / "hub").as_uri()
        stage.environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(stage.folder / "hf")}
        finished = stage.run()
    assert finished.code == 0, finished.log
    assert [r["question"] for r in stage.rows()] == [row["question"] for row in additions(6)]
    details = json.loads((stage.output / "result.json").read_text())["details"]
    assert (details["sources"], details["mirror"]) == ([uri], stage.mirror)


def test_a_repository_that_is_not_there_is_named(make_stage: Any) -> None:
    with FakeTeacher() as teacher, FakeHub("owner/sums", FILES) as hub:
        stage = make_stage(teacher.url, sources=[{"name": "hub", "uri": "hf://datasets/owner/nothing"}])
        stage.environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(stage.folder / "hf")}
        finished = stage.run()
        assert teacher.total == 0
    assert (finished.code, finished.message["reason"]) == (65, "SourceNotFound"), finished.log
    assert "hf://datasets/owner/nothing" in finished.message["message"]
