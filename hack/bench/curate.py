"""How fast and how frugal the filters of curation are on 60,000 questions; ends with a JSON line.

PYTHONPATH=operator:images python hack/bench/curate.py

- Decontamination against five benchmarks, beside the naive loop (every run of every benchmark question looked for in
  the text) on a part of the questions, with the same removals.
- Near duplicates, beside the comparison of each pair on a part.
- S1's selection of 1,000.
- Answers of 20 kB to all of them, taken over from another curation among 2,000 (2.5 GB in TMPDIR).

The questions are made up: 20 to 120 words, some of them frequent; a few taken from a benchmark, a few nearly
repeated. Each filter runs in a process of its own, so that its peak of memory is its own. Times are CPU seconds.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "images")]

from distillstages.common.artifacts import Output  # noqa: E402
from distillstages.curate import recorded  # noqa: E402
from distillstages.curate.decontaminate import WORDS, Benchmarks  # noqa: E402
from distillstages.curate.deduplicate import RUN, near  # noqa: E402
from distillstages.curate.journal import Journal  # noqa: E402
from distillstages.curate.records import Answer  # noqa: E402
from distillstages.curate.select import Candidate, select  # noqa: E402

ROWS = 60_000
PART = 300
BENCHMARKS = {"aime24": 30, "math500": 500, "gpqa": 198, "gsm8k": 1319, "livecodebench": 511}
NEAR = 0.8
CURATIONS = 2000
ANSWER_BYTES = 20_000


def text(rng: random.Random) -> list[str]:
    """20 to 120 words, some of them frequent."""
    return [f"w{int(rng.paretovariate(0.3)) % 20_000}" for _ in range(rng.randint(20, 120))]


def world() -> tuple[list[str], dict[str, list[str]]]:
    """(questions, benchmarks): one question in a hundred holds words of a benchmark, one nearly repeats another."""
    rng = random.Random(1)
    benchmarks = {name: [text(rng) for _ in range(number)] for name, number in BENCHMARKS.items()}
    questions = [text(rng) for _ in range(ROWS)]
    known = [words for each in benchmarks.values() for words in each]
    for number in range(0, ROWS, 100):
        taken = rng.choice(known)
        start = rng.randint(0, len(taken) - 12)
        questions[number] += taken[start : start + 12]
        questions[number + 1] = [*questions[rng.randrange(number, number + 50) + 2], "again"]
    joined = {name: [" ".join(words) for words in each] for name, each in benchmarks.items()}
    return [" ".join(words) for words in questions], joined


def decontaminate() -> dict[str, Any]:
    """All questions by the index, a part of them by the naive loop."""
    questions, known = world()
    started = time.process_time()
    benchmarks = Benchmarks()
    for name, texts in known.items():
        benchmarks.add(name, texts)
    removed = {i for i, question in enumerate(questions) if benchmarks.overlap(question)}
    seconds = time.process_time() - started
    runs = [
        " ".join(words[i : i + WORDS])
        for texts in known.values()
        for words in map(str.split, texts)
        for i in range(len(words) - WORDS + 1)
    ]
    started = time.process_time()
    naive = {i for i, q in enumerate(questions[:PART]) if any(f" {run} " in f" {q} " for run in runs)}
    naive_seconds = (time.process_time() - started) * ROWS / PART
    assert naive == {i for i in removed if i < PART}
    return {"seconds": seconds, "removed": len(removed), "naive_seconds": naive_seconds}


def deduplicate() -> dict[str, Any]:
    """All questions by MinHash, a part of them pair by pair."""
    questions, _ = world()
    started = time.process_time()
    removed = {i for i, earlier in enumerate(near(questions, NEAR)) if earlier is not None}
    seconds = time.process_time() - started
    part = 10 * PART
    started = time.process_time()
    sets = [
        {tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)} for words in map(str.split, questions[:part])
    ]
    naive = {i for i, one in enumerate(sets) if any(len(one & other) >= NEAR * len(one | other) for other in sets[:i])}
    naive_seconds = (time.process_time() - started) * (ROWS / part) ** 2
    return {
        "seconds": seconds,
        "removed": len(removed),
        "naive_seconds": naive_seconds,
        "differences": len(naive ^ {i for i in removed if i < part}),
    }


def choose() -> dict[str, Any]:
    """1,000 of all, of 50 domains."""
    rng = random.Random(2)
    candidates = [
        Candidate(f"{n:032x}", rng.randint(100, 30_000), f"domain {min(int(rng.paretovariate(1)), 50)}", n % 150 == 0)
        for n in range(ROWS)
    ]
    started = time.process_time()
    chosen = select(candidates, "S1", 1000, 42)
    return {"seconds": time.process_time() - started, "chosen": len(chosen)}


def take_over() -> dict[str, Any]:
    """Answers and verdicts of one that asked alike, while the others asked otherwise."""

    def line(document: dict[str, Any]) -> bytes:
        return json.dumps(document, separators=(",", ":")).encode() + b"\n"

    def record(place: Path, asking: str, number: int) -> None:
        folder = place / f"{number:064x}/.partial"
        folder.mkdir(parents=True)
        with (folder / "answers-000001-0001.jsonl").open("wb") as file:
            file.write(line({"kind": "opened", "run": "other", "asking": [asking]}))
            for n in range(ROWS if asking == "alike" else 1):
                answer = Answer(f"{n:032x}", 0, "x" * ANSWER_BYTES, prompt_tokens=1, request=f"{n:032x}")
                file.write(line(answer.as_dict()))
                verdict = {"key": answer.key, "sample": 0, "reason": None, "detail": "equal", "judging": "judge"}
                file.write(line({"kind": "verdict", **verdict}))

    async def work(output: Output) -> int:
        journal = await Journal.open(output, asking=["alike"])
        requests = {(f"{n:032x}", 0): f"{n:032x}" for n in range(ROWS)}
        await recorded.take_over(
            journal, output, "alike", requests, judging=lambda key: "judge", stopping=asyncio.Event()
        )
        await journal.close()
        return sum(entry.verdict is not None for entry in journal.entries.values())

    with tempfile.TemporaryDirectory() as root:
        for number in range(1, CURATIONS):
            record(Path(root), "alike" if number == CURATIONS // 2 else "otherwise", number)
        own = Path(root) / ("f" * 64)
        output = Output(own.as_uri(), stage="curate", fingerprint=own.name, attempt=1)
        started, wall = time.process_time(), time.monotonic()
        taken = asyncio.run(work(output))
        assert taken == ROWS
        return {"seconds": time.process_time() - started, "wall_seconds": time.monotonic() - wall, "answers": taken}


def alone(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What it found, and `megabytes` at its peak, out of a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found, peak = pool.apply(measured, (work,))
    print(f"{work.__name__}: {found}, peak {peak} MB", flush=True)
    return {**{k: round(v, 2) if isinstance(v, float) else v for k, v in found.items()}, "megabytes": peak}


def measured(work: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], int]:
    """In the new process."""
    found = work()
    return found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Each filter, then one line."""
    clean, once, chosen, taken = alone(decontaminate), alone(deduplicate), alone(choose), alone(take_over)
    line = {
        "bench": "curate",
        "rows": ROWS,
        **{f"decontaminate_{k}": v for k, v in clean.items()},
        "decontaminate_ratio_to_naive": round(clean["naive_seconds"] / clean["seconds"], 1),
        **{f"deduplicate_{k}": v for k, v in once.items()},
        "deduplicate_ratio_to_naive": round(once["naive_seconds"] / once["seconds"], 1),
        **{f"select_{k}": v for k, v in chosen.items()},
        **{f"take_over_{k}": v for k, v in taken.items()},
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
