"""The demo's additions and pupil."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distillstages.common import traceformat
from distillstages.demo import additions, pupil
from distillstages.demo.additions import Addition


def boxed(worked: additions.Worked) -> int:
    return int(worked.response.removeprefix(r"\boxed{").removesuffix("}"))


def test_an_addition_is_worked_column_by_column() -> None:
    worked = additions.work(Addition(347, 589))

    assert worked.thinking.splitlines() == ["7+9+0=16", "4+8+1=13", "3+5+1=09"]
    assert worked.response == r"\boxed{936}"
    assert worked.completion == traceformat.render("Think", worked.thinking, worked.response)


@pytest.mark.parametrize(("left", "right"), [(100, 100), (999, 999), (500, 500), (123, 877), (100, 900)])
def test_the_boxed_number_is_the_sum(left: int, right: int) -> None:
    assert boxed(additions.work(Addition(left, right))) == left + right


@pytest.mark.parametrize("slip", range(3))
def test_a_slip_in_any_column_always_makes_the_answer_wrong(slip: int) -> None:
    train, test = additions.question_sets(2000, 100)

    for each in [*train, *test, Addition(100, 100), Addition(999, 999), Addition(500, 500)]:
        assert boxed(additions.work(each, slip=slip)) != each.left + each.right


def test_a_slip_outside_the_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 2, got 3"):
        additions.work(Addition(100, 100), slip=3)


def test_test_questions_are_unseen_in_either_order() -> None:
    train, test = additions.question_sets(4000, 200)
    unordered = [frozenset((each.left, each.right)) for each in (*train, *test)]

    assert (len(train), len(test)) == (4000, 200)
    assert len(set(unordered)) == len(unordered)
    assert additions.question_sets(4000, 200) == (train, test)
    assert additions.question_sets(4000, 200, seed=7) != (train, test)


def test_a_question_is_understood_and_others_are_not() -> None:
    assert additions.parse(Addition(347, 589).question) == Addition(347, 589)
    assert additions.parse(" 347 + 589 = ? ") == Addition(347, 589)
    assert additions.parse("Mia had 347 beads and bought 589 more. 347+589=?") == Addition(347, 589)
    assert additions.parse("1347+2589=?") == Addition(1347, 2589)
    assert additions.parse("What is love?") is None
    assert additions.parse("1347+589=?") is None
    assert additions.parse("347+589=? And why?") is None


def test_a_number_that_is_a_choice_is_answered_with_its_letter() -> None:
    question = "347+589=?\n\nA. 836\nB. 936\nC. 935\n\nGive the letter of the right choice in \\boxed{}."
    letters = additions.letters_of(question)

    assert additions.parse(question) == Addition(347, 589)
    assert additions.work(Addition(347, 589), letters=letters).response == r"\boxed{B}"
    assert additions.work(Addition(347, 589), slip=0, letters=letters).response == r"\boxed{C}"
    assert additions.work(Addition(347, 589), slip=1, letters=letters).response == r"\boxed{926}"
    assert additions.letters_of("347+589=?") == {}


@pytest.mark.heavy
def test_the_pupil_is_the_same_for_the_same_seed_and_made_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        assert pupil.main(["--output", str(tmp_path / name), "--train", "30", "--test", "5"]) == 0
    before = (tmp_path / "a" / "pupil" / "model.safetensors").stat().st_mtime_ns
    assert pupil.main(["--output", str(tmp_path / "a"), "--train", "30", "--test", "5"]) == 0

    assert "already" in capsys.readouterr().out
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
        assert (tmp_path / "a" / file).stat().st_mode & 0o060 == 0o060, f"the group cannot use {file}"
    assert (tmp_path / "a" / "pupil" / "model.safetensors").stat().st_mtime_ns == before
    rows = [json.loads(line) for line in (tmp_path / "a" / "train.jsonl").read_text().splitlines()]
    assert len(rows) == 30
    assert set(rows[0]) == {"question", "answer"}


@pytest.mark.heavy
def test_the_pupils_tokenizer_gives_back_every_text() -> None:
    tokenizer = pupil.make_tokenizer()
    special = {tokenizer.convert_tokens_to_ids(token) for token in pupil.SPECIAL}

    for text in ("347+589=?", "<think>\n7+9+0=16\n</think>\n\n\\boxed{936}", "é 😀 \t user"):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert not special & set(ids)
    assert len({tokenizer.pad_token_id, tokenizer.eos_token_id, *special}) == 3
