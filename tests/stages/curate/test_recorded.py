"""Answers that other curations of the same namespace and storage have recorded are not asked for again."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from distillstages.common import config as configuration
from distillstages.common.artifacts import PARTIAL, Output
from distillstages.common.blocks import Generate, Teacher, Verify
from distillstages.common.metrics import Metrics
from distillstages.common.sources import Question
from distillstages.common.worker import Context, open_output
from distillstages.curate import recorded, request
from distillstages.curate.curation import Curation
from distillstages.curate.journal import Journal, Judged, Key
from distillstages.curate.records import Answer
from tests.stages.curate.conftest import Stage, additions
from tests.stages.curate.fake_teacher import FakeTeacher, solve

ALIKE = "a1" * 16
OTHERWISE = "0e" * 16
RIGHT: Judged = (None, "equal", "judge")


def request_of(number: int) -> str:
    return f"{number:032x}"


def key_of(number: int, sample: int = 0) -> Key:
    return f"q{number}", sample


def answer(number: int, sample: int = 0, **changes: Any) -> Answer:
    fields: dict[str, Any] = {
        "content": f"\\boxed{{{number}}}",
        "prompt_tokens": 3,
        "completion_tokens": 7,
        "request": request_of(number),
    }
    key, _ = key_of(number)
    return Answer(**{"key": key, "sample": sample, **fields, **changes})


class Curations:
    """Curations beside each other, by letter."""

    def __init__(self, root: str) -> None:
        self.root = root

    def output(self, letter: str) -> Output:
        fingerprint = letter * 64
        uri = f"{self.root}/{fingerprint}/"
        return Output(uri, stage="curate", fingerprint=fingerprint, attempt=1, run=f"run {letter}")

    async def record(
        self, letter: str, answers: list[Answer], verdicts: Mapping[Key, Judged] | None = None, asking: str = ALIKE
    ) -> None:
        """A curation that has been answered these."""
        journal = await Journal.open(self.output(letter), asking=[asking])
        for each in answers:
            await journal.append(each)
        for key, verdict in (verdicts or {}).items():
            await journal.judge(key, *verdict)
        await journal.close()

    async def begin(
        self,
        letter: str,
        numbers: range,
        samples: int = 1,
        judging: Callable[[Key], str] = lambda key: "judge",
        took: Callable[[int], None] = lambda answers: None,
    ) -> Journal:
        """The journal of one that is about to ask these. It stays readable."""
        journal = await Journal.open(self.output(letter), asking=[ALIKE])
        wanted = {key_of(n, s): request_of(n) for n in numbers for s in range(samples)}
        await recorded.take_over(
            journal, self.output(letter), ALIKE, wanted, judging=judging, stopping=asyncio.Event(), took=took
        )
        return journal

    def has(self, letter: str, numbers: range, **options: Any) -> Journal:
        """`begin`, from outside of a loop."""
        return asyncio.run(self.begin(letter, numbers, **options))


@pytest.fixture
def curations(tmp_path: Path) -> Curations:
    return Curations((tmp_path / "artifacts/team/curate").as_uri())


def contents(curations: Curations, letter: str) -> dict[str, bytes]:
    folder = curations.output(letter).path()
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_answers_and_verdicts_are_copied_and_the_other_curation_is_only_read(curations: Curations) -> None:
    asyncio.run(
        curations.record("a", [answer(n) for n in range(4)], {key_of(0): RIGHT, key_of(1): ("Wrong", "1", "judge")})
    )
    before = contents(curations, "a")
    journal = curations.has("b", range(2, 6))
    assert set(journal.entries) == {key_of(2), key_of(3)}
    journal = curations.has("c", range(4))
    assert contents(curations, "a") == before
    assert [journal.read(key_of(n)) for n in range(4)] == [answer(n) for n in range(4)]
    verdicts = [journal.entries[key_of(n)].verdict for n in range(4)]
    assert verdicts == [(None, "equal"), ("Wrong", "1"), None, None]


def test_they_are_counted_but_not_as_paid_by_whoever_reads_the_journal_next(curations: Curations) -> None:
    asyncio.run(curations.record("a", [answer(n) for n in range(4)]))

    async def work() -> tuple[Journal, Journal]:
        first = await curations.begin("b", range(6))
        await first.append(answer(4))
        await first.close()
        return first, await curations.begin("b", range(6))

    for journal in asyncio.run(work()):
        assert (journal.reused, journal.requests, journal.successes) == (4, 5, 5)
        assert (journal.prompt_tokens, journal.completion_tokens) == (15, 35)
        assert (journal.paid_prompt_tokens, journal.paid_completion_tokens) == (3, 7)


def test_what_was_taken_over_is_taken_over_again_after_its_origin_is_gone(curations: Curations) -> None:
    asyncio.run(curations.record("a", [answer(1)]))
    curations.has("b", range(2))
    curations.output("a").remove("")
    assert curations.has("c", range(2)).reused == 1


def test_of_more_samples_only_the_new_ones_are_missing(curations: Curations) -> None:
    asyncio.run(curations.record("a", [answer(n, s) for n in range(2) for s in range(2)]))
    journal = curations.has("b", range(2), samples=3)
    assert set(journal.entries) == {key_of(n, s) for n in range(2) for s in range(2)}


def test_who_asked_otherwise_is_not_read_beyond_the_first_line(
    curations: Curations, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(curations.record("a", [answer(n) for n in range(2)], asking=OTHERWISE))
    asyncio.run(curations.record("b", [answer(0)]))
    opened: list[str] = []
    opening = recorded._open

    def noted(curation: Output, name: str) -> Any:
        opened.append(curation.fingerprint[0])
        return opening(curation, name)

    monkeypatch.setattr(recorded, "_open", noted)
    assert set(curations.has("c", range(2)).entries) == {key_of(0)}
    assert sorted(opened) == ["a", "b", "b"]


def test_a_journal_that_does_not_say_how_it_asked_is_left_alone(curations: Curations) -> None:
    asyncio.run(curations.record("a", [answer(0)]))
    (journal,) = curations.output("a").path(PARTIAL).glob("answers-*")
    journal.write_bytes(journal.read_bytes().replace(b',"asking":["' + ALIKE.encode() + b'"]', b""))
    assert json.loads(journal.read_bytes().splitlines()[0]) == {"kind": "opened", "run": "run a"}
    assert not curations.has("b", range(1)).entries


def test_an_error_is_no_answer(curations: Curations) -> None:
    asyncio.run(curations.record("a", [answer(0, error=("RequestFailed", "HTTP 500")), answer(1)]))
    asyncio.run(curations.record("b", [answer(0)]))
    journal = curations.has("c", range(2))
    assert journal.read(key_of(0)) == answer(0)


def test_another_judge_judges_again(curations: Curations) -> None:
    asyncio.run(curations.record("a", [answer(0), answer(1)], {key_of(0): RIGHT, key_of(1): (None, "equal", "")}))
    journal = curations.has("b", range(2), judging=lambda key: "another judge")
    assert [entry.verdict for entry in journal.entries.values()] == [None, None]


def test_a_source_of_another_name_asks_the_same(curations: Curations) -> None:
    theirs = [answer(n, key=f"there {n}") for n in range(2)]
    asyncio.run(curations.record("a", theirs, {("there 0", 0): RIGHT}))
    journal = curations.has("b", range(2))
    assert [journal.read(key_of(n)) for n in range(2)] == [answer(n) for n in range(2)]
    assert journal.entries[key_of(0)].verdict == (None, "equal")


def test_two_questions_of_the_same_words_take_an_answer_each(curations: Curations) -> None:
    same = request_of(7)
    asyncio.run(
        curations.record("a", [answer(1, request=same, content="one"), answer(0, request=same, content="zero")])
    )

    async def begin() -> Journal:
        journal = await Journal.open(curations.output("b"), asking=[ALIKE])
        wanted = {key_of(n): same for n in range(3)}
        stopping = asyncio.Event()
        await recorded.take_over(
            journal, curations.output("b"), ALIKE, wanted, judging=lambda key: "judge", stopping=stopping
        )
        return journal

    journal = asyncio.run(begin())
    assert {key: journal.read(key).content for key in journal.entries} == {key_of(0): "zero", key_of(1): "one"}


def test_killed_while_it_takes_over_the_next_process_takes_the_rest(
    curations: Curations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "_BATCH_LINES", 10)
    asyncio.run(curations.record("a", [answer(n) for n in range(35)], {key_of(n): RIGHT for n in range(35)}))

    class Killed(BaseException):
        pass

    taken: list[int] = []

    def kill(answers: int) -> None:
        taken.append(answers)
        if len(taken) == 2:
            raise Killed

    with pytest.raises(Killed):
        curations.has("b", range(40), took=kill)
    (journal,) = curations.output("b").path(PARTIAL).glob("answers-*")
    lines = journal.read_bytes().splitlines(True)
    assert sum(b'"kind":"answer"' in line for line in lines) == 20
    journal.write_bytes(b"".join(lines)[:-5])
    assert not lines[-1].startswith(b'{"kind":"opened"')
    recorded_before = sum(b'"kind":"answer"' in line for line in lines[:-1])

    journal_then = curations.has("b", range(40), took=taken.append)
    assert set(journal_then.entries) == {key_of(n) for n in range(35)}
    assert journal_then.reused == 35
    assert sum(taken[2:]) == 35 - recorded_before


def test_one_that_is_at_work_is_read_as_far_as_it_is(curations: Curations) -> None:
    async def both() -> tuple[set[Key], set[Key]]:
        running = await Journal.open(curations.output("a"), asking=[ALIKE])
        await running.append(answer(0))
        (file,) = curations.output("a").path(PARTIAL).glob("answers-*")
        with file.open("ab") as half:
            half.write(b'{"kind":"answer","request":"' + request_of(1).encode() + b'","key":"q1","sam')
        first = await curations.begin("b", range(3))
        with file.open("ab") as rest:
            rest.write(b"\n")
        await running.append(answer(2))
        await running.close()
        second = await curations.begin("c", range(3))
        return set(first.entries), set(second.entries)

    first, second = asyncio.run(both())
    assert first == {key_of(0)}
    assert second == {key_of(0), key_of(2)}


def test_what_is_wrong_with_one_costs_its_answers_only(
    curations: Curations, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Torn and foreign lines, values of other types, a folder that vanishes, a file that cannot be read."""

    async def record() -> None:
        for letter, number in zip("abcd", range(4), strict=True):
            await curations.record(letter, [answer(number), answer(number + 10)])

    asyncio.run(record())
    (torn,) = curations.output("a").path(PARTIAL).glob("answers-*")
    first, _, last = torn.read_bytes().splitlines(True)
    strange = [
        b'{"kind":"answer","request":"' + request_of(0).encode() + b'","key":"q0","sa\n',
        b"\xff\xfe\n[]\n7\nnull\n\n",
        b'{"kind":["answer"]}\n{"kind":"verdict","key":[],"sample":{}}\n',
        json.dumps({**answer(0).as_dict(), "content": 7}).encode() + b"\n",
        json.dumps({**answer(0).as_dict(), "sample": "0"}).encode() + b"\n",
    ]
    torn.write_bytes(first + b"".join(strange) + last)
    opening, seen = recorded._open, set()

    def failing(curation: Output, name: str) -> Any:
        letter = curation.fingerprint[0]
        if letter == "b" or (letter == "c" and letter in seen):
            raise FileNotFoundError(f"no {name} any more") if letter == "b" else OSError(5, "Input/output error")
        seen.add(letter)
        return opening(curation, name)

    monkeypatch.setattr(recorded, "_open", failing)
    (curations.output("9").folder(PARTIAL) / "answers-strange.jsonl").mkdir()
    caplog.set_level("INFO")
    journal = curations.has("e", range(20))
    assert set(journal.entries) == {key_of(10), key_of(3), key_of(13)}
    (told,) = [r.fields for r in caplog.records if "fields" in vars(r) and "reusedAnswers" in r.fields]
    assert (told["curations"], told["reusedAnswers"], told["unreadable"]) == (5, 3, 2)


def test_what_cannot_be_listed_is_asked(curations: Curations, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(output: Output, path: str = "") -> list[str]:
        raise PermissionError("AccessDenied")

    asyncio.run(curations.record("a", [answer(0)]))
    monkeypatch.setattr(Output, "folders", refuse)
    assert not curations.has("b", range(1)).entries


def test_reading_in_vain_ends(curations: Curations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "_IN_VAIN_BYTES", 500)

    async def record() -> None:
        await curations.record("a", [answer(0)])
        await curations.record("b", [answer(n) for n in range(100, 110)])
        await curations.record("c", [answer(1)])

    asyncio.run(record())
    assert set(curations.has("d", range(2)).entries) == {key_of(0)}


def test_asked_to_stop_it_stops(curations: Curations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "_LOOK_BYTES", 1000)
    asyncio.run(curations.record("a", [answer(n) for n in range(100)]))

    async def begin() -> int:
        stopping = asyncio.Event()
        journal = await Journal.open(curations.output("b"), asking=[ALIKE])
        wanted = {key_of(n): request_of(n) for n in range(100)}
        await recorded.take_over(
            journal,
            curations.output("b"),
            ALIKE,
            wanted,
            judging=lambda key: "judge",
            stopping=stopping,
            took=lambda answers: stopping.set(),
        )
        return len(journal.entries)

    assert 0 < asyncio.run(begin()) < 100


ENDPOINT = Teacher(name="t", url="http://teacher/v1", model="m")


@pytest.mark.parametrize(
    ("teacher", "generate"),
    [
        ({"url": "http://other/v1"}, {}),
        ({"model": "other"}, {}),
        ({}, {"temperature": 0.1}),
        ({}, {"top_p": 0.5}),
        ({}, {"max_tokens": 7}),
        ({}, {"system_prompt": "Think."}),
    ],
)
def test_whatever_a_request_says_is_part_of_its_identity(teacher: dict[str, Any], generate: dict[str, Any]) -> None:
    usual = request.identity(ENDPOINT, Generate(), "1+1=?")
    assert usual != request.identity(ENDPOINT.model_copy(update=teacher), Generate(**generate), "1+1=?")
    assert request.identity(ENDPOINT, Generate()) != request.identity(
        ENDPOINT.model_copy(update=teacher), Generate(**generate)
    )


def test_what_a_request_does_not_say_is_not_part_of_its_identity() -> None:
    patient = {"name": "other", "max_concurrency": 1, "requests_per_day": 9, "request_timeout_seconds": 1.0}
    slashed = ENDPOINT.model_copy(update={**patient, "url": "http://teacher/v1/"})
    assert request.identity(ENDPOINT, Generate(), "?") == request.identity(slashed, Generate(samples=9), "?")
    assert request.identity(ENDPOINT, Generate(), "?") != request.identity(ENDPOINT, Generate(), "!")


def test_a_verdict_depends_on_settings_and_reference_and_not_on_what_follows_from_it() -> None:
    question = Question("k", "k", "pool", "1+1=?", "2")
    usual = recorded.judging(Verify(), question)
    assert usual == recorded.judging(Verify(wrong="Keep"), question)
    others = [
        recorded.judging(Verify(timeout_seconds=1), question),
        recorded.judging(Verify(), Question("k", "k", "pool", "1+1=?", "3")),
        recorded.judging(Verify(), Question("k", "k", "pool", "1+1=?", "2", choices=4)),
    ]
    assert len({usual, *others}) == 4


def beside(first: Stage, make_stage: Any, letter: str, url: str, **options: Any) -> Stage:
    """Another curation of the same namespace and storage."""
    stage: Stage = make_stage(url, additions(6), **options)
    stage.root = first.folder / "artifacts"
    stage.fingerprint = letter * 64
    return stage


def inside(stage: Stage) -> dict[str, Any]:
    """The stage in this process, which is started once and not for each run; its numbers. Raises StageError."""
    config = configuration.parse(yaml.safe_dump(stage.config))
    output = open_output(config)
    output.claim()
    return asyncio.run(Curation(Context(config, output, Metrics(), threading.Event())).run())


def test_a_run_with_another_selection_asks_and_judges_nothing_and_at_another_temperature_everything(
    make_stage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def reused(stage: Stage) -> tuple[int, int, int]:
        """Answers and verdicts that were taken over, and completion tokens that were paid."""
        caplog.clear()
        numbers = inside(stage)
        (told,) = [vars(r)["fields"] for r in caplog.records if r.message.startswith("looked for recorded answers")]
        return numbers["reusedAnswers"], told["reusedVerdicts"], numbers["paid"]["t"]["completionTokens"]

    with FakeTeacher(solve) as teacher:
        first = make_stage(teacher.url, additions(6))
        inside(first)
        assert teacher.total == 6

        narrow = beside(first, make_stage, "a", teacher.url, select={"strategy": "Random", "size": 2})
        assert reused(narrow) == (6, 6, 0)
        assert teacher.total == 6
        assert len(narrow.rows()) == 2

        assert reused(beside(first, make_stage, "b", teacher.url, generate={"temperature": 0.1})) == (0, 0, 42)
        assert set(teacher.asked.values()) == {2}
