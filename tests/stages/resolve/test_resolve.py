"""What resolve freezes, and what it refuses before anything costs money."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.stages.fake_hub import SHA, FakeHub, hub_cache
from tests.stages.resolve.conftest import CONFIG, Finished, questions, run_stage, save_weights


def block(student: Path | str, *sources: Any, benchmarks: tuple[Any, ...] = (), **changes: Any) -> dict[str, Any]:
    uri = student if isinstance(student, str) else student.as_uri()
    return {
        "student": {"uri": uri},
        "sources": [entry(each, f"source-{n}") for n, each in enumerate(sources)],
        "benchmarks": [entry(each, f"benchmark-{n}") for n, each in enumerate(benchmarks)],
        **changes,
    }


def entry(given: Any, name: str) -> dict[str, Any]:
    if isinstance(given, dict):
        return {"name": name, **given}
    return {"name": name, "uri": given if isinstance(given, str) else given.as_uri()}


def test_files_get_an_identity_rows_are_counted_and_the_model_is_measured(tmp_path: Path, student: Path) -> None:
    pool, exam = questions(tmp_path / "pool.jsonl", 7), tmp_path / "exam.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"q": ["1+1=?"] * 3, "a": [2, 2, 2]}), exam)
    benchmark = {"uri": exam.as_uri(), "fields": {"question": "q", "answer": "a"}, "take": 2}

    first = run_stage(tmp_path, block(student, pool, benchmarks=(benchmark,)))

    assert first.code == 0, first.log
    assert first.resolved["student"]["dimensions"] == {
        "modelType": "qwen2",
        "hiddenSize": 8,
        "layers": 2,
        "heads": 4,
        "kvHeads": 2,
        "headDim": 2,
        "intermediateSize": 16,
        "vocabSize": 32,
        "maxPositions": 256,
        "tiedEmbeddings": True,
        "parameters": 264,
        "dtype": "bfloat16",
    }
    assert [(e["name"], e["rows"]) for e in first.resolved["sources"]] == [("source-0", 7)]
    assert [(e["name"], e["rows"]) for e in first.resolved["benchmarks"]] == [("benchmark-0", 2)]
    assert all(e["revision"].startswith("sha256:") and len(e["revision"]) == 39 for e in first.resolved["sources"])
    assert not (tmp_path / "artifacts").exists(), "an answer that another run could take for its own"

    again = run_stage(tmp_path, block(student, pool, benchmarks=(benchmark,)))
    assert again.resolved == first.resolved

    questions(pool, 7, answer="0")
    changed = run_stage(tmp_path, block(student, pool, benchmarks=(benchmark,)))
    assert changed.resolved["sources"][0]["revision"] != first.resolved["sources"][0]["revision"]
    assert changed.resolved["student"] == first.resolved["student"]

    pinned = {"uri": pool.as_uri(), "pinned": first.resolved["sources"][0]["revision"]}
    refused = run_stage(tmp_path, block(student, pinned))
    assert (refused.code, refused.message["reason"]) == (65, "InputChanged")
    assert "has changed since it was resolved" in refused.message["message"]


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path, student: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"question": "1+1=?", "answer": "2"}\n{"question": "1+2=?", "answ\n')
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"question": "1", "answer": "2"}\n' * 9)[:-20])
    (student / "tokenizer.json").write_text('{"version": "1.0"')
    ended = run_stage(
        tmp_path,
        block(
            student,
            broken,
            tmp_path / "empty.jsonl",
            tmp_path / "nowhere.jsonl",
            {"uri": questions(tmp_path / "pool.jsonl").as_uri(), "fields": {"question": "problem", "answer": "sol"}},
            tmp_path / "cut.jsonl.gz",
        ),
    )
    said = ended.message["message"]
    assert (ended.code, ended.message["reason"]) == (65, "DataInvalid"), ended.log
    assert said.startswith("6 things are wrong: (1) student file://")
    assert "(6) source 'source-4'" in said
    for words in (
        "tokenizer.json cannot be loaded",
        "broken.jsonl row 2: not JSON",
        "empty.jsonl has no rows",
        "there is no file://",
        "pool.jsonl row 1: no fields 'problem', 'sol'; fields found: answer, question",
        "cut.jsonl.gz",
    ):
        assert words in ended.log, ended.log
    assert "Traceback" not in said + ended.log


@pytest.mark.parametrize(
    ("spoil", "reason", "words"),
    [
        (lambda s: (s / "config.json").unlink(), "StudentNotFound", "expected a model folder with config.json"),
        (lambda s: (s / "config.json").write_text("{"), "StudentNotFound", "config.json is not a JSON object"),
        (lambda s: (s / "tokenizer.json").unlink(), "StudentNoTokenizer", "it has no tokenizer"),
        (lambda s: (s / "chat_template.jinja").unlink(), "NoChatTemplate", "no chat template"),
        (lambda s: (s / "chat_template.jinja").write_text("{% if %}"), "NoChatTemplate", "does not render"),
        (lambda s: (s / "model.safetensors").unlink(), "StudentNotFound", "it has no weights"),
        (
            lambda s: (s / "model.safetensors").write_bytes((s / "model.safetensors").read_bytes()[:-1]),
            "StudentNotFound",
            "model.safetensors is truncated",
        ),
        (
            lambda s: (s / "model.safetensors.index.json").write_text(
                json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}})
            ),
            "StudentNotFound",
            "names model-2.safetensors, not there: 1 of 2 weight files were found",
        ),
    ],
)
def test_a_student_that_training_could_not_use_is_refused(student: Path, spoil: Any, reason: str, words: str) -> None:
    from distillstages.common.blocks import Resolve
    from distillstages.common.exit import DataFault
    from distillstages.resolve import student as students

    spoil(student)
    with pytest.raises(DataFault) as caught:
        students.resolve(Resolve.model_validate({"student": {"uri": student.as_uri()}}))
    assert caught.value.reason == reason
    assert words in caught.value.message
    assert caught.value.message.startswith(f"student {student.as_uri()}: ")


def test_a_template_that_knows_no_system_prompt_is_refused_only_where_the_run_has_one(student: Path) -> None:
    from distillstages.common.blocks import Resolve
    from distillstages.common.exit import DataFault
    from distillstages.resolve import student as students

    template = (student / "chat_template.jinja").read_text()
    guard = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    (student / "chat_template.jinja").write_text(guard + template)
    given = {"student": {"uri": student.as_uri()}}
    students.resolve(Resolve.model_validate(given))
    with pytest.raises(DataFault, match="with this run's system prompt: System role not supported"):
        students.resolve(Resolve.model_validate({**given, "traceFormat": "SkyT1"}))


@pytest.fixture
def model_hub(student: Path) -> Any:
    return FakeHub("owner/model", {path.name: path.read_bytes() for path in student.iterdir()}, kind="models")


def hub_environment(hub: FakeHub, tmp_path: Path) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}


def test_a_branch_of_a_hub_becomes_a_commit_and_an_earlier_commit_is_kept(tmp_path: Path, model_hub: FakeHub) -> None:
    def resolve(**student: Any) -> Finished:
        given = {"student": {"uri": "hf://owner/model", **student}}
        return run_stage(tmp_path, given, hub_environment(model_hub, tmp_path))

    with model_hub as hub:
        found = resolve(revision="main")
        assert found.code == 0, found.log
        assert found.resolved["student"]["revision"] == SHA
        assert found.resolved["student"]["dimensions"]["parameters"] == 264

        assert resolve(revision="main", pinned=SHA).resolved == found.resolved
        hub.sha = "f" * 40  # a push that rewrites history
        gone = resolve(revision="main", pinned=SHA)
        assert (gone.code, gone.message["reason"]) == (65, "SourceNotFound"), gone.log
        assert f"was resolved with revision {SHA}" in gone.message["message"]
        assert resolve().resolved["student"]["revision"] == "f" * 40

        unknown = resolve(revision="v9")
        assert unknown.code == 65
        assert "hf://owner/model, revision v9: not found" in unknown.message["message"]


def test_data_sets_of_a_hub_are_pinned_and_their_columns_looked_at(tmp_path: Path, student: Path) -> None:
    rows = "".join(json.dumps({"question": f"{n}+1=?", "answer": str(n + 1)}) + "\n" for n in range(4)).encode()
    with FakeHub("owner/sums", {"data/train.jsonl": rows}) as hub:
        whole, file = "hf://datasets/owner/sums", "hf://datasets/owner/sums/data/train.jsonl"
        found = run_stage(tmp_path, block(student, whole, file), hub_environment(hub, tmp_path))
        assert found.code == 0, found.log
        assert [(e["revision"], e["rows"]) for e in found.resolved["sources"]] == [(SHA, 4), (SHA, 4)]

        wrong = {"uri": whole, "fields": {"question": "problem"}}
        ended = run_stage(tmp_path, block(student, wrong), hub_environment(hub, tmp_path))
        assert (ended.code, ended.message["reason"]) == (65, "FieldMissing"), ended.log
        assert "no field 'problem'" in ended.message["message"]


@pytest.fixture
def cached(tmp_path: Path, student: Path) -> str:
    """The URI of a mirror: a hub's cache with a student and a data set."""
    rows = "".join(json.dumps({"question": f"{n}+1=?", "answer": str(n + 1)}) + "\n" for n in range(4)).encode()
    hub_cache(tmp_path / "hub", "owner/model", {f.name: f.read_bytes() for f in student.iterdir()}, kind="models")
    hub_cache(tmp_path / "hub", "owner/sums", {"data/train.jsonl": rows})
    return (tmp_path / "hub").as_uri()


NO_HUB = {"HF_ENDPOINT": "http://127.0.0.1:9"}


def test_with_a_folder_as_mirror_the_same_commits_are_pinned_and_no_hub_is_asked(tmp_path: Path, cached: str) -> None:
    given = block("hf://owner/model", "hf://datasets/owner/sums", "hf://datasets/owner/sums/data/train.jsonl")
    found = run_stage(tmp_path, given, NO_HUB, mirror=cached)
    assert found.code == 0, found.log
    assert (found.resolved["student"]["revision"], found.resolved["student"]["dimensions"]["parameters"]) == (SHA, 264)
    assert [(e["revision"], e["rows"]) for e in found.resolved["sources"]] == [(SHA, 4), (SHA, 4)]

    given["student"]["revision"], given["sources"][0]["revision"] = "v9", "f" * 40
    missing = run_stage(tmp_path, given, NO_HUB, mirror=cached)
    assert (missing.code, missing.message["reason"]) == (65, "SourceNotFound"), missing.log
    assert "`hf download owner/model --revision v9 --cache-dir <folder>`" in missing.message["message"]
    assert f"`hf download owner/sums --repo-type dataset --revision {'f' * 40} --cache-dir" in missing.log


def test_with_a_server_as_mirror_it_is_asked_instead_of_the_hub(tmp_path: Path, model_hub: FakeHub) -> None:
    with model_hub as hub:
        given = {"student": {"uri": "hf://owner/model"}}
        found = run_stage(tmp_path, given, {**NO_HUB, "HF_HOME": str(tmp_path / "hf")}, mirror=hub.url)
    assert found.code == 0, found.log
    assert found.resolved["student"]["revision"] == SHA


def test_rows_that_may_be_drawn_are_all_looked_at_and_counted_as_drawn(tmp_path: Path, student: Path) -> None:
    pool = questions(tmp_path / "pool.jsonl", 7)
    drawn = {"uri": pool.as_uri(), "take": 3, "pick": "Random"}
    assert run_stage(tmp_path, block(student, drawn)).resolved["sources"][0]["rows"] == 3
    with pool.open("a") as file:
        file.write('{"question": "x"}\n')
    assert run_stage(tmp_path, block(student, {**drawn, "pick": "First"})).code == 0
    ended = run_stage(tmp_path, block(student, drawn))
    assert (ended.code, ended.message["reason"]) == (65, "FieldMissing"), ended.log


def test_columns_that_a_layout_needs_are_missed_before_anything_costs_money(tmp_path: Path, student: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_text(json.dumps({"messages": [{"role": "user", "content": "q"}], "key": "2", "n": 1}) + "\n")
    wrong: dict[str, dict[str, Any]] = {
        "no field 'conversations' for a conversation; fields found: key, messages, n": {"layout": "ShareGPT"},
        "no reply follows the first question": {"layout": "Messages"},
        "no fields 'instruction', 'output'; fields found: key, messages, n": {"layout": "Alpaca"},
        "no fields 'question', 'answer', 'a', 'b'": {"layout": "MultipleChoice", "choices": ["a", "b"]},
    }
    for said, fields in wrong.items():
        ended = run_stage(tmp_path, block(student, {"uri": chats.as_uri(), "fields": fields}))
        assert (ended.code, ended.message["reason"]) == (65, "FieldMissing"), ended.log
        assert said in ended.message["message"]
    right = {"uri": chats.as_uri(), "fields": {"layout": "Messages", "answer": "key", "id": "n"}}
    assert run_stage(tmp_path, block(student, right)).resolved["sources"][0]["rows"] == 1


def test_a_row_whose_tests_cannot_be_used_is_refused_in_a_benchmark_and_left_to_curation_in_a_source(
    tmp_path: Path, student: Path
) -> None:
    tasks = tmp_path / "apps.jsonl"
    good = {"question": "Double it.", "input_output": json.dumps({"inputs": ["1"], "outputs": ["2"]})}
    tasks.write_text("".join(json.dumps(row) + "\n" for row in (good, {**good, "input_output": "{"})))
    given = {"uri": tasks.as_uri(), "fields": {"layout": "CodeTests"}}
    assert run_stage(tmp_path, block(student, given)).resolved["sources"][0]["rows"] == 2
    ended = run_stage(tmp_path, block(student, given, benchmarks=(given,)))
    assert (ended.code, ended.message["reason"]) == (65, "TestsUnreadable"), ended.log
    assert "'benchmark-0'" in ended.message["message"]
    assert "apps.jsonl row 2: the tests cannot be read: not JSON" in ended.message["message"]


def test_a_published_dataset_is_pinned_and_refused_only_where_none_of_its_first_rows_can_be_used(
    tmp_path: Path, student: Path
) -> None:
    traces = tmp_path / "traces.jsonl"
    good = {"question": "q", "thinking": "t", "response": "r"}
    traces.write_text("".join(json.dumps(row) + "\n" for row in ({**good, "thinking": ""}, good, good)))

    def resolve(**dataset: Any) -> Finished:
        return run_stage(tmp_path, block(student, dataset={"uri": traces.as_uri(), **dataset}))

    (entry,) = resolve().resolved["sources"]
    assert (entry["name"], entry["rows"], entry["revision"][:7]) == ("dataset", 3, "sha256:")
    for dataset, reason, said in (
        ({"take": 1}, "NoThinking", "none of the first 1 rows can be used;"),
        ({"fields": {"thinking": "trace"}}, "FieldMissing", "no field 'trace'; fields found: question, response"),
    ):
        ended = resolve(**dataset)
        assert (ended.code, ended.message["reason"]) == (65, reason), ended.log
        assert said in ended.message["message"]


def test_what_questions_are_compared_with_is_pinned_and_needs_no_answers(tmp_path: Path, student: Path) -> None:
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text(json.dumps({"problem": "1+1=?"}) + "\n")
    pool = questions(tmp_path / "pool.jsonl")

    def resolve(**fields: Any) -> Finished:
        given = {"name": "held-out", "uri": held_out.as_uri(), "fields": {**fields, "answered": False}}
        return run_stage(tmp_path, block(student, pool, against=[given]))

    found = resolve(question="problem")
    assert found.code == 0, found.log
    (entry,) = found.resolved["against"]
    assert (entry["name"], entry["rows"], entry["revision"][:7]) == ("held-out", 1, "sha256:")
    refused = resolve()
    assert (refused.code, refused.message["reason"]) == (65, "FieldMissing"), refused.log
    assert "source 'held-out'" in refused.message["message"]


def test_a_hub_that_is_away_is_temporary_unless_something_is_wrong_as_well(tmp_path: Path, student: Path) -> None:
    away = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf")}
    waiting = run_stage(tmp_path, block(student, "hf://datasets/owner/sums"), away)
    assert (waiting.code, waiting.message["reason"]) == (75, "Temporary"), waiting.log
    (student / "config.json").unlink()
    failed = run_stage(tmp_path, block(student, "hf://datasets/owner/sums"), away)
    assert (failed.code, failed.message["reason"]) == (65, "StudentNotFound"), failed.log
    assert "hub cannot be reached" not in failed.message["message"]


def test_a_sharded_model_is_counted_over_all_its_files(tmp_path: Path, student: Path) -> None:
    (student / "model.safetensors").unlink()
    save_weights(student / "model-1.safetensors", {"model.embed_tokens.weight": (32, 8)})
    save_weights(student / "model-2.safetensors", {"lm_head.weight": (32, 8), "model.norm.weight": (8,)})
    files = {"lm_head.weight": "model-2.safetensors", "model.embed_tokens.weight": "model-1.safetensors"}
    (student / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    config = {**CONFIG, "tie_word_embeddings": False}
    (student / "config.json").write_text(json.dumps(config))

    ended = run_stage(tmp_path, block(student))

    assert ended.code == 0, ended.log
    assert ended.resolved["student"]["dimensions"]["parameters"] == 2 * 256 + 8
    assert ended.resolved["student"]["dimensions"]["tiedEmbeddings"] is False
