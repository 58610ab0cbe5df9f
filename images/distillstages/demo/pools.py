"""Question pools of the small recipes (manifests/recipes/*-smoke.yaml), in layouts that real pools have.

| file                 | layout                               | questions                                      |
| -------------------- | ------------------------------------ | ---------------------------------------------- |
| math.jsonl           | columns `problem` and `solution`     | `234+142=?`                                    |
| aime.jsonl           | the same                             | sums of four digits: longer traces             |
| stories.jsonl        | ShareGPT conversations               | `Mia had 234 beads and bought 142 more. 2…`    |
| tasks.csv            | Alpaca: instruction, input, output   | `Add the two numbers.`, below it `234+142=?`   |
| choices.parquet      | GPQA's columns                       | `234+142=?` with four choices                  |
| additions-test.jsonl | columns `question` and `answer`      | benchmarks: sums that occur in no pool,        |
| stories-test.jsonl   | as stories.jsonl                     | other than where a pool leaks them             |
| choices-test.parquet | as choices.parquet                   |                                                |

All digits are from 0 to 4: no column carries, which a pupil learns sooner. As pools in the wild these hold what
curation must find: rows that stand there twice, questions that two files share, stories told again in nearly the same
words, and questions of the benchmarks, some of them reworded. The constants say how many.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from distillstages.demo.additions import Addition, work

VERSION: Final = 1
"""Raised when the files change, so that folders with older ones are made anew."""

SIZES: Final = {"math": 640, "aime": 80, "stories": 200, "tasks": 160, "choices": 80}
"""Questions of a pool, before what follows is added."""
TESTS: Final = {"additions": 40, "stories": 20, "choices": 20}
"""The same of the benchmarks."""
REPEATED: Final = 8
"""Rows that stand in math.jsonl twice."""
SHARED: Final = 9
"""Questions of math.jsonl that stand in tasks.csv, too."""
RETOLD: Final = 15
"""Stories that stand in stories.jsonl a second time with one more word."""
LEAKED: Final = {"math": 12, "stories": 10, "choices": 6}
"""Questions of the benchmarks in the pools; every other one of the stories has another name in it."""

_DIGITS: Final = "01234"
_NAMES: Final = ("Ada", "Ben", "Eva", "Mia", "Sam", "Tom")
_THINGS: Final = ("beads", "cards", "coins", "pears", "shells", "stamps")

Row = dict[str, Any]


def write_pools(folder: Path, seed: int) -> None:
    """Writes the files above into the folder (made if missing); the same seed makes the same bytes."""
    dice = random.Random(f"pools-{seed}")
    short, long = _different(dice, 3), _different(dice, 4)
    tests = {name: [next(short) for _ in range(count)] for name, count in TESTS.items()}
    pools = {name: [next(long if name == "aime" else short) for _ in range(count)] for name, count in SIZES.items()}
    told = [(each, dice.choice(_NAMES), dice.choice(_THINGS)) for each in pools["stories"]]
    asked = [(each, dice.choice(_NAMES), dice.choice(_THINGS)) for each in tests["stories"]]
    leaked = [
        (each, _NAMES[_NAMES.index(name) - number % 2], thing)
        for number, (each, name, thing) in enumerate(asked[: LEAKED["stories"]])
    ]

    math = [*pools["math"], *tests["additions"][: LEAKED["math"]], *dice.sample(pools["math"], REPEATED)]
    stories = [_story(*each) for each in [*told, *leaked]]
    stories += [(f"Yesterday {story}", each) for story, each in dice.sample(stories[: len(told)], RETOLD)]
    tasks = [_task("Add the two numbers.", each.question, each) for each in pools["tasks"]]
    tasks += [_task(each.question, "", each) for each in dice.sample(pools["math"], SHARED)]
    choices = [*pools["choices"], *tests["choices"][: LEAKED["choices"]]]
    for rows in (math, stories, tasks, choices):
        dice.shuffle(rows)

    folder.mkdir(parents=True, exist_ok=True)
    for name, some in (("math", math), ("aime", pools["aime"])):
        problems = ({"problem": each.question, "solution": _solution(each)} for each in some)
        _jsonl(folder / f"{name}.jsonl", problems)
    _jsonl(folder / "stories.jsonl", (_conversation(*each) for each in stories))
    _csv(folder / "tasks.csv", tasks)
    _parquet(folder / "choices.parquet", [_choices(each) for each in choices])
    plain = ({"question": each.question, "answer": each.answer} for each in tests["additions"])
    _jsonl(folder / "additions-test.jsonl", plain)
    _jsonl(folder / "stories-test.jsonl", (_conversation(*_story(*each)) for each in asked))
    _parquet(folder / "choices-test.parquet", [_choices(each) for each in tests["choices"]])


def _different(dice: random.Random, digits: int) -> Iterator[Addition]:
    """Additions of numbers with so many digits, none twice in either order."""
    seen: set[tuple[int, int]] = set()
    while True:
        left, right = (int("".join([dice.choice(_DIGITS[1:]), *dice.choices(_DIGITS, k=digits - 1)])) for _ in range(2))
        unordered = (min(left, right), max(left, right))
        if unordered not in seen:
            seen.add(unordered)
            yield Addition(left, right)


def _story(addition: Addition, name: str, thing: str) -> tuple[str, Addition]:
    told = f"{name} had {addition.left} {thing} and bought {addition.right} more. {addition.question}"
    return told, addition


def _solution(addition: Addition) -> str:
    return f"The sum is \\boxed{{{addition.answer}}}."


def _conversation(question: str, addition: Addition) -> Row:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": _solution(addition)}]
    return {"conversations": turns}


def _task(instruction: str, given: str, addition: Addition) -> Row:
    return {"instruction": instruction, "input": given, "output": addition.answer}


def _choices(addition: Addition) -> Row:
    """The sum, and what a slip in each column makes of it: those are what a teacher who is wrong would choose."""
    slips = (work(addition, slip).response.removeprefix("\\boxed{").removesuffix("}") for slip in range(3))
    wrong = {f"Incorrect Answer {number}": text for number, text in enumerate(slips, 1)}
    return {"Question": addition.question, "Correct Answer": addition.answer, **wrong}


def _jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _csv(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _parquet(path: Path, rows: Sequence[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(list(rows)), path)
