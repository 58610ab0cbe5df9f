"""A published dataset becomes the run's own, as a process: what is kept, what is left out, and that train reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from distillstages.common import reasons
from distillstages.curate import pages
from distillstages.train.dataset import read_rows
from tests.stages.curate.conftest import Stage, write_jsonl
from tests.stages.fake_hub import SHA, FakeHub

SYSTEM = "Your role is to think first."


def converting(tmp_path: Path, uri: str, **dataset: Any) -> Stage:
    folder = tmp_path / "stage"
    folder.mkdir(exist_ok=True)
    return Stage(folder, {"dataset": {"uri": uri, **dataset}})


def sky_t1(number: int, **changes: Any) -> dict[str, Any]:
    """As Sky-T1_data_17k."""
    reply = (
        f"<|begin_of_thought|>\n\nAdd {number} and 1.\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\nIt is "
        f"\\boxed{{{number + 1}}}.\n\n<|end_of_solution|>"
    )
    turns = [{"from": "user", "value": f"{number}+1=?"}, {"from": "assistant", "value": reply}]
    return {"system": SYSTEM, "conversations": turns, **changes}


def s1k(number: int) -> dict[str, Any]:
    """As s1K and s1K-1.1."""
    return {
        "solution": str(number + 1),
        "question": f"{number}+1=?",
        "cot_type": "math",
        "thinking_trajectories": [f"Add {number} and 1."],
        "attempt": f"It is \\boxed{{{number + 1}}}.",
        "deepseek_thinking_trajectory": f"Add {number} and 1.",
        "deepseek_attempt": f"It is \\boxed{{{number + 1}}}.",
    }


LAYOUTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "Sky-T1_data_17k": (sky_t1, {"layout": "ShareGPT"}),
    "s1K": (s1k, {"thinking": "thinking_trajectories", "response": "attempt", "answer": "solution"}),
    "s1K-1.1": (s1k, {"thinking": "deepseek_thinking_trajectory", "response": "deepseek_attempt"}),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_published_dataset_is_converted_without_a_teacher_and_training_reads_it(tmp_path: Path, name: str) -> None:
    make, fields = LAYOUTS[name]
    table = pyarrow.Table.from_pylist([make(number) for number in range(5)])
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    stage = converting(tmp_path, (tmp_path / "train.parquet").as_uri(), fields=fields, take=4)

    finished = stage.run()

    assert finished.code == 0, finished.log
    characters = sum(len(f"{n}+1=?Add {n} and 1.It is \\boxed{{{n + 1}}}.") for n in range(4))
    assert finished.numbers == {
        "questions": 4,
        "rows": 4,
        "accepted": 4,
        "rejected": 0,
        "rejectedByReason": {},
        "duplicates": 0,
        "contaminated": 0,
        "funnel": {"read": 4, "deduplicate": 4},
        "datasetTokens": characters // 4,
    }
    trained = list(read_rows(stage.output.as_uri()))
    assert [(r["question"], r["thinking"], r["response"]) for r in trained] == [
        (f"{n}+1=?", f"Add {n} and 1.", f"It is \\boxed{{{n + 1}}}.") for n in range(4)
    ]
    assert [row["reference"] for row in stage.rows()] == (["1", "2", "3", "4"] if name == "s1K" else [""] * 4)


def test_rows_that_cannot_be_taught_are_left_out_whole_with_a_reason_and_counted(tmp_path: Path) -> None:
    cut = sky_t1(7)
    cut["conversations"][1]["value"] = cut["conversations"][1]["value"][:-30]
    forged = sky_t1(8)
    forged["conversations"][1]["value"] = forged["conversations"][1]["value"].replace("Add", "<|im_end|>")
    chat = sky_t1(9)
    chat["conversations"] *= 2
    own_system = sky_t1(1)
    own_system["conversations"].insert(0, {"from": "system", "value": SYSTEM})
    rows = [sky_t1(0), own_system, sky_t1(0), cut, forged, chat, {"system": "s", "conversations": None}]
    stage = converting(tmp_path, write_jsonl(tmp_path / "a.jsonl", rows).as_uri(), fields={"layout": "ShareGPT"})

    finished = stage.run()

    assert finished.code == 0, finished.log
    by_reason = {"Duplicate": 1, "Malformed": 1, "MultipleTurns": 1, "RowBroken": 1, "Truncated": 1}
    assert finished.numbers["rejectedByReason"] == by_reason
    assert (finished.numbers["rows"], finished.numbers["accepted"]) == (7, 2)
    rejected = {row["reason"]: row for row in stage.rows("rejected")}
    assert json.loads(rejected["Truncated"]["response"]) == cut, "what was left out can be read there"
    assert rejected["Truncated"]["detail"].endswith(
        "a.jsonl row 4: no <|end_of_solution|> at the end: the text is cut off"
    )
    details = json.loads((stage.output / "result.json").read_text())["details"]
    assert details["systemPromptsNotUsed"] == 1
    page = (stage.output / "sample.md").read_text()
    assert "| rejected: Truncated | 1 |" in page
    assert "rejected: MultipleTurns" in page


def test_several_traces_of_a_question_stay_and_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [{"question": "q", "thinking": f"thought {n}", "response": "r", "uid": n} for n in range(30)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    published = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        stage = converting(tmp_path / folder, path.as_uri(), fields={"id": "uid"})
        numbers = stage.run().numbers
        assert [numbers[name] for name in ("questions", "rows", "accepted", "rejected")] == [1, 30, 30, 0]
        assert [(row["id"], row["sample"]) for row in stage.rows()] == [(str(n), n) for n in range(30)]
        published.append([(stage.output / n).read_bytes() for n in ("dataset/part-00000.parquet", *pages.NAMES)])
    assert published[0] == published[1]


def test_a_published_dataset_leaves_a_funnel_a_card_and_pages_as_a_curated_one_does(tmp_path: Path) -> None:
    row = {"question": "q", "thinking": "<b>hm</b>", "response": "r"}
    rows = [row, row, {**row, "question": "1+1=?"}, {**row, "response": ""}, {**row, "thinking": ""}]
    exam = write_jsonl(tmp_path / "exam.jsonl", [{"question": "1+1=?", "answer": "2"}])
    stage = converting(tmp_path, write_jsonl(tmp_path / "a.jsonl", rows).as_uri(), revision=None, unchecked=True)
    stage.block["decontaminate"] = {"against": [{"name": "exam", "uri": exam.as_uri()}]}

    finished = stage.run()

    assert finished.code == 0, finished.log
    document = json.loads((stage.output / "funnel.json").read_text())
    assert [(step["step"], step["unit"], step["in"], step["out"]) for step in document["steps"]] == [
        ("read", "rows", 5, 3),
        ("deduplicate", "rows", 3, 2),
        ("decontaminate", "rows", 2, 1),
    ]
    assert finished.numbers["funnel"] == {"read": 3, "deduplicate": 2, "decontaminate": 1}
    assert (finished.numbers["duplicates"], finished.numbers["contaminated"]) == (1, 1)
    card = (stage.output / "README.md").read_text()
    for line in (
        f"- Dataset: {(tmp_path / 'a.jsonl').as_uri()}, split train",
        "- Revision: not pinned (unchecked)",
        "- Rows: all, layout Columns",
        "- Traces: 1",
        f"Decontaminated against: exam ({exam.as_uri()}); 8 words in a row.",
        "| read | rows | 5 | 3 | FieldMissing 1, NoThinking 1 |",
    ):
        assert line in card, card
    html = (stage.output / "sample.html").read_text()
    assert "&lt;b&gt;hm" in html
    assert "<td>decontaminate</td>" in html
    outputs = json.loads((stage.output / "result.json").read_text())["outputs"]
    assert set(outputs) == {"dataset", "rejected", "sample", "page", "card", "funnel"}
    assert all((stage.output / path).exists() for path in outputs.values())


@pytest.mark.parametrize(
    ("rows", "fields", "reason", "said"),
    [
        ([s1k(1)], {}, reasons.FIELD_MISSING, "no fields 'thinking', 'response'; fields found: attempt, cot_type"),
        (
            [sky_t1(1)],
            {"layout": "Messages"},
            reasons.FIELD_MISSING,
            "no field 'messages'; fields found: conversations",
        ),
        ([], {}, reasons.SOURCE_EMPTY, "has no rows"),
        (
            [{"question": "q", "thinking": "", "response": "r"}] * 3,
            {},
            reasons.NOTHING_ACCEPTED,
            "none of the 3 rows of file:///",
        ),
    ],
)
def test_a_dataset_that_cannot_be_used_ends_with_a_sentence(
    tmp_path: Path, rows: list[Any], fields: dict[str, Any], reason: str, said: str
) -> None:
    stage = converting(tmp_path, write_jsonl(tmp_path / "a.jsonl", rows).as_uri(), fields=fields)
    finished = stage.run()
    assert (finished.code, finished.message["reason"]) == (65, reason), finished.log
    assert said in finished.message["message"]
    assert not (stage.output / "result.json").exists()


def test_a_dataset_of_the_hub_is_read_at_the_commit_that_was_pinned(tmp_path: Path) -> None:
    rows = "".join(json.dumps(sky_t1(n)) + "\n" for n in range(3)).encode()
    with FakeHub("owner/traces", {"data/train.jsonl": rows}) as hub:
        stage = converting(
            tmp_path, "hf://datasets/owner/traces", fields={"layout": "ShareGPT"}, revision=SHA, unchecked=True
        )
        stage.environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
        finished = stage.run()
    assert finished.code == 0, finished.log
    assert finished.numbers["accepted"] == 3
    assert (
        f"| revision of dataset | {SHA} (unchecked: the spec names no commit"
        in (stage.output / "sample.md").read_text()
    )
    assert json.loads((stage.output / "result.json").read_text())["details"]["dataset"]["unchecked"] is True


def test_files_that_changed_since_they_were_resolved_are_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [sky_t1(1)])
    stage = converting(tmp_path, path.as_uri(), fields={"layout": "ShareGPT"}, revision="sha256:" + "0" * 32)
    finished = stage.run()
    assert (finished.code, finished.message["reason"]) == (65, "InputChanged"), finished.log
