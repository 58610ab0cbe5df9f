"""The small recipes as tests see them, and what curation must make of their pools, worked out naively."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import yaml

from distillstages.common.blocks import Source
from distillstages.common.sources import read_questions
from distillstages.demo.additions import parse
from distillstages.demo.teacher import is_wrong
from tests.kube import ROOT

SMOKE = ("s1-smoke", "sky-t1-smoke")
TEACHER_SEED = 7
MOUNTED = "file:///mnt/distillrun"
"""Where a run's pods find what lies in the claim's folder."""

Text = tuple[str, str]
"""(source, question)."""


def recipe(name: str) -> dict[str, Any]:
    """A recipe as it is shipped."""
    made: dict[str, Any] = yaml.safe_load((ROOT / f"manifests/recipes/{name}.yaml").read_text())
    return made


@dataclass(frozen=True)
class Curated:
    """What a curation left behind."""

    funnel: list[dict[str, Any]]
    kept: list[dict[str, Any]]
    rejected: list[dict[str, Any]]
    filtered: list[dict[str, Any]]

    @classmethod
    def of(cls, folder: Path) -> Curated:
        """Of the artifact in a folder."""
        tables = [parquet.read_table(folder / name).to_pylist() for name in ("dataset", "rejected", "filtered")]
        return cls(json.loads((folder / "funnel.json").read_text())["steps"], *tables)

    @property
    def asked(self) -> list[Text]:
        """All questions that the teacher was asked."""
        return [(row["source"], row["question"]) for row in [*self.kept, *self.rejected]]


def check_funnel(spec: Mapping[str, Any], claim: Path, curated: Curated) -> None:
    """Hold every step of the funnel, and what was left out at it, against the pools in the claim's folder."""
    curate = spec["curate"]
    pool = [text for source in curate["sources"] for text in texts(source, claim)]
    benchmarks = [text for benchmark in spec["evaluate"]["benchmarks"] for text in texts(benchmark, claim)]
    steps: list[tuple[str, int, dict[str, int]]] = []

    once = list(dict.fromkeys(pool))
    steps.append(("read", len(pool), {"Duplicate": len(pool) - len(once)}))
    seen: set[str] = set()
    unique = [text for text in once if not (text[1] in seen or seen.add(text[1]))]  # type: ignore[func-returns-value]
    steps.append(("deduplicate", len(once), {"Duplicate": len(once) - len(unique)}))
    known = set().union(*(runs(question, 8) for _, question in benchmarks))
    clean = [text for text in unique if not runs(text[1], 8) & known]
    steps.append(("decontaminate", len(unique), {"Contaminated": len(unique) - len(clean)}))
    new = without_near(clean, float(curate["deduplicate"]["near"]))
    steps.append(("deduplicate-near", len(clean), {"NearDuplicate": len(clean) - len(new)}))
    drawn = quotas(curate["sources"], Counter(source for source, _ in new))
    if drawn.total() < len(new):
        steps.append(("mix", len(new), {"NotDrawn": len(new) - drawn.total()}))
    wrong = sum(is_wrong(question, TEACHER_SEED) for _, question in curated.asked)
    if curate.get("verify", {}).get("wrong") == "Keep":
        wrong = 0
    steps.append(("verify", drawn.total(), {"WrongAnswer": wrong} if wrong else {}))
    if size := curate.get("select", {}).get("size"):
        steps.append(("select", drawn.total() - wrong, {"NotSelected": drawn.total() - wrong - size}))

    assert [(step["step"], step["in"], step["removed"]) for step in curated.funnel] == steps
    assert all(n for step in steps[:4] for n in step[2].values()), "a step has nothing to do, and shows nothing"
    assert Counter(source for source, _ in curated.asked) == drawn
    assert set(curated.asked) <= set(new)
    assert len(curated.kept) == curated.funnel[-1]["out"]
    left_out = Counter((row["step"], row["reason"]) for row in curated.filtered)
    assert left_out == {(step, why): n for step, _, removed in steps[1:4] for why, n in removed.items()}


def check_s1(spec: Mapping[str, Any], curated: Curated) -> None:
    """One trace a question; first the right ones that are preselected, then domains alike, and long before short."""
    select = spec["curate"]["select"]
    chosen = {(row["source"], row["question"]) for row in curated.kept}
    assert len(chosen) == len(curated.kept) == select["size"]
    least = {each["source"]: each.get("minTokens", 0) for each in select["preselect"]}
    tokens = {(r["source"], r["question"]): len(r["thinking"] + r["response"]) for r in curated.kept + curated.rejected}
    first = {
        (source, question)
        for source, question in curated.asked
        if source in least and tokens[source, question] >= least[source] and not is_wrong(question, TEACHER_SEED)
    }
    assert 0 < len(first) < select["size"]
    assert first <= chosen
    domains = {each["name"]: each["domain"] for each in spec["curate"]["sources"]}
    filled = Counter(domains[source] for source, _ in chosen - first)
    large = [filled[domain] for domain in ("math", "stories", "puzzle")]
    assert min(large) > 0.6 * max(large), filled
    long = {(source, question) for source, question in curated.asked if source == "aime"}
    assert long - first, "no wrong trace of four columns is there to be drawn"
    assert len(long & chosen) > 0.95 * len(long), "the longest of a domain are all but sure to be drawn"


def columns(question: str) -> int:
    """Columns of the addition that a question asks."""
    addition = parse(question)
    assert addition is not None
    return addition.columns


def texts(source: Mapping[str, Any], claim: Path) -> list[Text]:
    """The questions of a source or a benchmark, without the sentence that curation puts below choices."""
    uri = source["uri"].replace(MOUNTED, claim.as_uri())
    read = Source.model_validate({"name": source["name"], "uri": uri, "fields": source.get("fields", {})})
    return [(q.source, q.question) for q in read_questions(read)]


def runs(question: str, size: int) -> set[tuple[str, ...]]:
    """All runs of so many words; of a shorter question the whole."""
    words = question.replace("Give the letter of the right choice in \\boxed{}.", "").lower().split()
    return {tuple(words[start : start + size]) for start in range(max(1, len(words) - size + 1))}


def without_near(pool: Sequence[Text], threshold: float) -> list[Text]:
    """Each pair compared."""
    kept: list[tuple[Text, set[tuple[str, ...]]]] = []
    for text in pool:
        own = runs(text[1], 3)
        if not any(len(own & other) / len(own | other) >= threshold for _, other in kept):
            kept.append((text, own))
    return [text for text, _ in kept]


def quotas(sources: Sequence[Mapping[str, Any]], there: Counter[str]) -> Counter[str]:
    """Questions of each source in the largest mixture that keeps the shares."""
    if "share" not in sources[0]:
        return there
    shares = {source["name"]: Fraction(source["share"]) for source in sources}
    unit = min(there[name] / share for name, share in shares.items())
    return Counter({name: math.floor(unit * share) for name, share in shares.items()})
