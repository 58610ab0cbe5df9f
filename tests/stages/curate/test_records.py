"""How a recorded answer reads as a trace, and the journal that holds it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillstages.common.artifacts import Output
from distillstages.common.blocks import ReasoningDelimiters
from distillstages.common.traceformat import Trace
from distillstages.curate.journal import Journal
from distillstages.curate.records import Answer, fault_of, trace_of


def answer(content: str, **fields: object) -> Answer:
    return Answer(**{"key": "k", "sample": 0, "content": content, "finish": "stop", **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("recorded", "trace"),
    [
        (answer("<think>\nwhy\n</think>\n\n42"), Trace("why", "42")),
        (answer("42", reasoning="why"), Trace("why", "42")),
        (answer("<think>why</think>42", reasoning="why"), Trace("why", "42")),
        (answer("42"), Trace("", "42")),
        (
            answer("<|begin_of_thought|>why<|end_of_thought|><|begin_of_solution|>42<|end_of_solution|>"),
            Trace("why", "42"),
        ),
    ],
)
def test_thinking_and_response_are_found_wherever_the_teacher_put_them(recorded: Answer, trace: Trace) -> None:
    assert trace_of(recorded) == trace
    assert fault_of(recorded, trace) is None


OWN = ReasoningDelimiters(open="[THINK]", close="[/THINK]")


@pytest.mark.parametrize(
    ("recorded", "trace"),
    [
        (answer("[THINK]\nwhy\n[/THINK]\n\n42"), Trace("why", "42")),
        (answer("why[/THINK]42"), Trace("why", "42")),
        (answer("[THINK]why[/THINK]42", reasoning="why"), Trace("why", "42")),
        (answer("42", reasoning="why"), Trace("why", "42")),
        (answer("42"), Trace("", "42")),
    ],
)
def test_a_teachers_own_delimiters_are_split_at_as_those_of_the_formats_are(recorded: Answer, trace: Trace) -> None:
    assert trace_of(recorded, OWN) == trace
    assert fault_of(recorded, trace, OWN) is None


@pytest.mark.parametrize("content", ["[THINK]for ever", "[THINK]a[/THINK]b[/THINK]42", "<think>a</think>42"])
def test_what_a_teachers_own_delimiters_do_not_split_is_malformed(content: str) -> None:
    fault = fault_of(answer(content), trace_of(answer(content), OWN), OWN)
    assert fault is not None
    assert fault[0] == "Malformed"


@pytest.mark.parametrize(
    ("recorded", "reason"),
    [
        (answer("\\boxed{1}", finish="length"), "Truncated"),
        (answer("", finish="content_filter"), "ContentFiltered"),
        (answer(""), "Malformed"),
        (answer("<think>\nfor ever"), "Malformed"),
        (answer("<think>a</think>b</think>\\boxed{1}"), "Malformed"),
        (answer("\\boxed{1}<|im_end|>"), "Malformed"),
        (answer("", error=("RequestFailed", "HTTP 500")), "RequestFailed"),
    ],
)
def test_what_cannot_be_taught_is_rejected_before_its_answer_is_looked_at(recorded: Answer, reason: str) -> None:
    fault = fault_of(recorded, trace_of(recorded))
    assert fault is not None
    assert fault[0] == reason


def open_output(folder: Path, attempt: int = 1) -> Output:
    return Output(folder.as_uri(), stage="curate", fingerprint="9c" * 32, attempt=attempt, who="pod")


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=20))
def test_every_recorded_answer_is_read_back_as_it_came(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    answers = [
        Answer(f"q{n}", 0, content.encode("utf-8", "replace").decode(), reasoning.encode("utf-8", "replace").decode())
        for n, (content, reasoning) in enumerate(texts)
    ]

    async def write() -> None:
        journal = await Journal.open(open_output(folder))
        await asyncio.gather(*(journal.append(a) for a in answers))
        assert [journal.read((a.key, 0)) for a in answers] == answers
        await journal.close()

    async def read() -> None:
        journal = await Journal.open(open_output(folder))
        assert [journal.read((a.key, 0)) for a in answers] == answers
        await journal.close()

    asyncio.run(write())
    asyncio.run(read())


def test_journals_of_several_attempts_are_one_and_the_first_answer_counts(tmp_path: Path) -> None:
    async def run() -> None:
        for attempt in (1, 1, 2):
            journal = await Journal.open(open_output(tmp_path, attempt))
            number = len(journal.entries)
            await journal.append(Answer(f"q{number}", 0, f"by {attempt}"))
            await journal.judge((f"q{number}", 0), None, "equal")
            await journal.append(Answer("q0", 0, "asked twice"))
            await journal.close()
        journal = await Journal.open(open_output(tmp_path, 3))
        assert [journal.read((f"q{n}", 0)).content for n in range(3)] == ["by 1", "by 1", "by 2"]
        assert [journal.entries[f"q{n}", 0].verdict for n in range(3)] == [(None, "equal")] * 3
        assert journal.requests == 6  # what was paid for twice is counted twice
        await journal.close()

    asyncio.run(run())
    names = sorted(p.name for p in (tmp_path / ".partial").iterdir())
    assert names == [f"answers-{a:06d}-{n:04d}.jsonl" for a, n in ((1, 1), (1, 2), (2, 1), (3, 1))]


@given(st.data())
def test_a_journal_cut_anywhere_loses_nothing_but_its_last_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")

    async def write() -> None:
        journal = await Journal.open(open_output(folder))
        for n in range(5):
            await journal.append(Answer(f"q{n}", 0, f"answer {n}\n with two lines"))
        await journal.close()

    asyncio.run(write())
    (path,) = (folder / ".partial").iterdir()
    whole = path.read_bytes()
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    path.write_bytes(cut)
    complete = max(cut.count(b"\n") - 1, 0)  # the first line says which run writes

    async def read() -> None:
        journal = await Journal.open(open_output(folder, 2))
        assert sorted(journal.entries) == [(f"q{n}", 0) for n in range(complete)]
        assert journal.skipped_lines == (0 if cut.endswith(b"\n") or not cut else 1)
        await journal.close()

    asyncio.run(read())


def test_lines_that_are_not_ours_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / ".partial"
    folder.mkdir()
    good = json.dumps(Answer("q", 0, "x").as_dict())
    (folder / "answers-000001-0001.jsonl").write_text(f'{{}}\n[1]\nnull\n\x00\x00\n{{"kind":"verdict"}}\n{good}\n')

    async def read() -> None:
        journal = await Journal.open(open_output(tmp_path))
        assert list(journal.entries) == [("q", 0)]
        assert journal.skipped_lines == 5
        await journal.close()

    asyncio.run(read())
