"""How well and how fast answers are checked; prints what it found and ends with a JSON line.

PYTHONPATH=operator:images python hack/bench/verify_answers.py

- gsm8k-model-solutions: 5,276 real solutions with published labels; every disagreement is printed.
- MATH-500: each answer against the published solution, against other ways of writing it (verify_forms.py), against
  answers that are nearly right (verify_misses.py), and against the solutions of other questions; what is wrongly judged
  is printed, and every answer of another question that is accepted.
- Speed: answers a second of CPU time, ours and bare math-verify's on the same pairs.
- Hostile answers among ordinary ones: what they cost, and that the ordinary verdicts are the same.

Figures are of CPU time: those of a busy machine are close to those of an idle one. Without the data (data/ of the
folder that DISTILLRUN_SHARED names, or of ../shared) it says so and ends with 0.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "images")]

from distillstages.common.verify import Verdict, Verifier  # noqa: E402
from hack.bench.verify_forms import rewritings  # noqa: E402
from hack.bench.verify_misses import near_misses  # noqa: E402

Pair = tuple[str, str]
"""(reference, response)."""
SEED = 5
HOSTILE = (
    "9^{9^{9^{9^9}}}",
    "10^{10^{10^{10}}}!",
    r"\sum_{i=1}^{10^{10}} \sin(i)^{i}",
    r"\int_0^1 \sin(x^{x^{x}}) e^{\cos(x^x)} dx",
    "{" * 900 + "}" * 900,
    r"\frac" * 400,
    "(" * 900 + "1" + ")" * 900,
    "+".join(f"x^{{{n}}}" for n in range(200)) + "=0",
    r"\sqrt{" * 150 + "2" + "}" * 150,
)


def data(name: str) -> list[dict[str, Any]] | None:
    """Rows of a shared file, None where it is not."""
    folder = Path(os.environ.get("DISTILLRUN_SHARED") or ROOT.parent / "shared") / "data"
    path = folder / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else None


async def verdicts(verifier: Verifier, pairs: list[Pair]) -> list[Verdict]:
    """In the order of the pairs."""
    return await asyncio.gather(*(verifier.verdict(*pair) for pair in pairs))


def boxed(text: str) -> str:
    """A response that gives this answer."""
    return f"The answer is $\\boxed{{{text}}}$."


async def gsm8k(verifier: Verifier, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Agreement with the labels."""
    labelled = [
        (row["ground_truth"].rpartition("A:")[2].strip(), each["solution"], each["is_correct"])
        for row in rows
        for each in row.values()
        if isinstance(each, dict)
    ]
    found = await verdicts(verifier, [(reference, solution) for reference, solution, _ in labelled])
    differ = [(row, v) for row, v in zip(labelled, found, strict=True) if v.accepted != row[2]]
    for (reference, solution, label), verdict in differ:
        print(f"gsm8k: label {label}, ours {verdict}: reference {reference!r}, solution ends {solution[-100:]!r}")
    return {"gsm8k_answers": len(labelled), "gsm8k_agreement": 1 - len(differ) / len(labelled)}


async def judged(verifier: Verifier, what: str, triples: list[tuple[str, str, str]], want: bool) -> int:
    """How many of (reference, form, response) are judged otherwise; each is printed."""
    found = await verdicts(verifier, [(reference, response) for reference, _, response in triples])
    wrong = [(t, v) for t, v in zip(triples, found, strict=True) if v.accepted != want]
    for (reference, form, response), verdict in wrong:
        print(f"{what}: {form}: {response[-200:]!r} for {reference!r}: {verdict.reason or 'accepted'}")
    return len(wrong)


async def math500(verifier: Verifier, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Each answer against itself, its rewritings, its near misses and the others' solutions."""
    answers = [row["answer"] for row in rows]
    own = [(r["answer"], "published solution", r["solution"]) for r in rows]
    own += [(answer, "itself", boxed(answer)) for answer in answers]
    same = [(a, name, boxed(text)) for a in answers for name, text in rewritings(a)]
    other = [(a, name, boxed(text)) for a in answers for name, text in near_misses(a)]
    fewest = min(len(rewritings(answer)) for answer in answers)
    own_wrong = await judged(verifier, "itself", own, True)
    same_wrong = await judged(verifier, "rewriting rejected", same, True)
    other_wrong = await judged(verifier, "near miss accepted", other, False)
    shuffled = random.Random(SEED).sample(rows, len(rows))
    pairs = [(r["answer"], s["solution"]) for r, s in zip(rows, shuffled, strict=True) if r is not s]
    found = await verdicts(verifier, pairs)
    coincidences = [
        [reference, verdict.extracted] for (reference, _), verdict in zip(pairs, found, strict=True) if verdict.accepted
    ]
    print(f"shuffled: {len(pairs)} pairs, accepted: {coincidences}")
    return {
        "math500_itself_agreement": 1 - own_wrong / len(own),
        "math500_rewritings": len(same),
        "math500_fewest_rewritings": fewest,
        "math500_rewritings_agreement": round(1 - same_wrong / len(same), 5),
        "near_misses": len(other),
        "near_misses_accepted": other_wrong,
        "shuffled_accepted": coincidences,
    }


async def speed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Answers a second of CPU time, from a warm start: one process that checks, and ours beside it counted with it."""
    turned = rows[1:] + rows[:1]
    pairs = [(r["answer"], r["solution"]) for r in rows] + [
        (r["answer"], s["solution"]) for r, s in zip(rows, turned, strict=True)
    ]
    async with Verifier(workers=1) as verifier:
        await verifier.verdict(r"\sqrt{2}", boxed("2^{1/2}"))
        before = _cpu(verifier)
        await verdicts(verifier, pairs)
        ours = len(pairs) / (_cpu(verifier) - before)
    bare = len(pairs) / _bare(pairs)
    return {
        "answers_per_second_per_core": round(ours),
        "bare_math_verify": round(bare),
        "ratio_to_bare": round(ours / bare, 2),
    }


def _cpu(verifier: Verifier) -> float:
    """CPU seconds of this process and of the checking ones."""
    total = time.process_time()
    for checker in verifier._all:
        if checker.process is not None:
            fields = Path(f"/proc/{checker.process.pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def _bare(pairs: list[Pair]) -> float:
    """CPU seconds of math-verify alone."""
    from math_verify import parse, verify

    verify(parse("$1$", parsing_timeout=None), parse("$1$", parsing_timeout=None), timeout_seconds=None)
    start = time.process_time()
    for reference, response in pairs:
        gold = parse(f"\\boxed{{{reference}}}", parsing_timeout=None)
        verify(gold, parse(response, parsing_timeout=None), timeout_seconds=None)
    return time.process_time() - start


async def hostile(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Hostile answers among ordinary ones, with a limit of 1 s."""
    ordinary = [(r["answer"], r["solution"]) for r in rows[:100]]
    bad = [(r"\sqrt{2}", boxed(text)) for text in HOSTILE]
    mixed = list(ordinary)
    for number, pair in enumerate(bad):
        mixed.insert((number + 1) * 10, pair)
    idle, _ = await _alone(None)
    alone_costs = [await _alone(pair) for pair in bad]
    async with Verifier(workers=2, timeout_seconds=1) as verifier:
        found = await verdicts(verifier, mixed)
        alone = await verdicts(verifier, ordinary)
    among = [v for pair, v in zip(mixed, found, strict=True) if pair not in bad]
    return {
        "hostile": len(bad),
        "hostile_accepted": sum(accepted for _, accepted in alone_costs),
        "hostile_slowest_cpu_seconds": round(max(cost for cost, _ in alone_costs) - idle, 1),
        "others_disturbed": sum(one != other for one, other in zip(among, alone, strict=True)),
    }


async def _alone(pair: Pair | None) -> tuple[float, bool]:
    """(CPU seconds of a checking process from start to end, whether it accepted) for one answer, or none."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    async with Verifier(workers=1, timeout_seconds=1) as verifier:
        await verifier.verdict(r"\sqrt{2}", boxed("2^{1/2}"))
        accepted = pair is not None and (await verifier.verdict(*pair)).accepted
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, accepted


async def measure() -> dict[str, Any]:
    """Everything that the data at hand allows."""
    figures: dict[str, Any] = {"bench": "verify"}
    solutions, questions = data("gsm8k-model-solutions.jsonl"), data("math500.jsonl")
    if solutions is None or questions is None:
        figures["skipped"] = "set DISTILLRUN_SHARED to the folder that holds data/math500.jsonl and its neighbours"
        return figures
    async with Verifier() as verifier:
        figures |= await gsm8k(verifier, solutions)
        figures |= await math500(verifier, questions)
    figures |= await speed(questions)
    return figures | await hostile(questions)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure())))
