"""Numbers as words that fit a column: times, shares, counts, money, and a stage's headline."""

from __future__ import annotations

import re
from collections.abc import Mapping

from distillrun.cli.view import RunView, ScoreView, StageView, number

_LABELS = re.compile(r"(?P<name>\w+)\{(?P<labels>.*)\}")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def duration(seconds: float | None) -> str:
    """``4:05``, ``1:04:05``; nothing for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def count(value: float | str | None) -> str:
    """``3,600``; a number that is none stays as it is."""
    parsed = number(value)
    if parsed is None or parsed != parsed or parsed in (float("inf"), float("-inf")):
        return str(value or "")
    return f"{parsed:,.0f}"


def share(value: float) -> str:
    """``98.5 %`` for 0.985."""
    return f"{value * 100:.1f} %"


def interval(score: ScoreView) -> str:
    """``98.5 % (95.7–99.5)``: the value and its 95 % interval."""
    return f"{share(score.value)} ({score.low * 100:.1f}–{score.high * 100:.1f})"


def money(amount: str, currency: str) -> str:
    """``0.0123 USD``."""
    return f"{amount} {currency}".strip()


def age(seconds: float) -> str:
    """``45s``, ``12m``, ``5h``, ``3d``: as kubectl writes it."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size or (unit == "d" and seconds >= size):
            return f"{int(seconds // size)}{unit}"
    return f"{max(int(seconds), 0)}s"


def spending(run: RunView) -> str:
    """What the run has cost, and what was expected and allowed, in a phrase."""
    parts = [f"cost so far {money(run.spent, run.currency)} for {duration(run.gpu_seconds)} of GPU time"]
    if run.expected:
        took = f" in {duration(run.expected_seconds)}" if run.expected_seconds else ""
        parts.append(f"training was expected to cost {money(run.expected, run.currency)}{took}")
    if run.budget:
        parts.append(f"budget {money(run.budget, run.currency)}")
    if words := serving(run):
        parts.append(words)
    return " · ".join(parts)


def serving(run: RunView) -> str:
    """What the model servers have cost beside that; "" when they have held no GPU."""
    if not run.serving_spent:
        return ""
    limit = f", of at most {money(run.max_cost, run.currency)}" if run.max_cost else ""
    took = duration(run.serving_gpu_seconds)
    return f"serving beside that {money(run.serving_spent, run.currency)} for {took} of GPU time{limit}"


def notices(run: RunView) -> list[str]:
    """Conditions that a reader should know of and that the run's message does not tell."""
    found = []
    for kind, bad in (
        ("Feasible", ("False", "Unknown")),
        ("BudgetExceeded", ("True",)),
        ("MaxCostReached", ("True",)),
        ("Suspended", ("True",)),
    ):
        condition = run.conditions.get(kind)
        if condition is not None and condition.status in bad and condition.message not in run.message:
            unsure = " is not known" if condition.status == "Unknown" else ""
            found.append(f"{kind}{unsure} ({condition.reason}): {condition.message}")
    return found


def interruptions(stage: StageView) -> str:
    """``2 preemptions, 1 release``: attempts that ended without a fault of the stage's."""
    counts = ((stage.preemptions, "preemption"), (stage.releases, "release"))
    return ", ".join(f"{number} {word}{'s' if number > 1 else ''}" for number, word in counts if number)


def labelled(numbers: Mapping[str, str], name: str) -> dict[tuple[str, ...], str]:
    """The values of one metric by its labels' values: ``traces_rejected{reason="X"}`` gives ("X",)."""
    found: dict[tuple[str, ...], str] = {}
    for key, value in numbers.items():
        match = _LABELS.fullmatch(key)
        if match and match["name"] == name:
            found[tuple(text for _, text in sorted(_LABEL.findall(match["labels"])))] = value
    return found


def rejections(stage: StageView) -> dict[str, str]:
    """Rejected traces by reason, from the result when there is one, else from progress; the most frequent first."""
    prefix = "rejectedByReason."
    found = {key.removeprefix(prefix): value for key, value in stage.results.items() if key.startswith(prefix)}
    if not found:
        found = {labels[0]: value for labels, value in labelled(stage.numbers, "traces_rejected").items() if labels}
    return dict(sorted(found.items(), key=lambda item: (-(number(item[1]) or 0), item[0])))


def rate(stage: StageView) -> str:
    """``3.2 steps/s`` or, when slow, ``12 s/step``; nothing when unknown."""
    if stage.rate <= 0:
        return ""
    unit = stage.unit or "units"
    if stage.rate < 0.5:
        return f"{1 / stage.rate:.1f} s/{unit.removesuffix('s')}"
    return f"{stage.rate:,.1f} {unit}/s" if stage.rate < 100 else f"{stage.rate:,.0f} {unit}/s"


def headline(stage: StageView) -> str:
    """The numbers that matter of a stage, in a phrase; "" when there are none yet."""
    parts = {"curate": _curate, "train": _train, "evaluate": _evaluate}.get(stage.name, lambda _: [])(stage)
    if stage.state == "Running":
        if stage.name != "serve":
            parts += [rate(stage), f"ETA {duration(stage.eta)}" if stage.eta is not None else ""]
    elif stage.message and stage.state in ("Pending", "Failed"):
        parts = [f"{stage.reason}: {stage.message}" if stage.reason else stage.message]
    return " · ".join(filter(None, parts))


def _curate(stage: StageView) -> list[str]:
    accepted = stage.results.get("accepted") or stage.numbers.get("traces_accepted")
    rejected = stage.results.get("rejected") or str(sum(number(each) or 0 for each in rejections(stage).values()))
    if accepted is None:
        return []
    return [f"{count(accepted)} accepted", f"{count(rejected)} rejected"]


def _train(stage: StageView) -> list[str]:
    loss = stage.results.get("loss") or stage.numbers.get("loss")
    parts = [f"loss {loss}"] if loss else []
    if stage.state == "Running":
        speed = number(stage.numbers.get("tokens_per_second"))
        parts += [f"{count(speed)} tokens/s"] if speed else []
        parts += [f"checkpoint {stage.checkpoint}"] if stage.checkpoint else []
    return parts


def _evaluate(stage: StageView) -> list[str]:
    scores = labelled(stage.numbers, "accuracy")  # labels sort as benchmark, model
    return [f"{' '.join(labels)} {share(number(value) or 0.0)}" for labels, value in sorted(scores.items())]


def score_words(run: RunView) -> list[str]:
    """``additions: student 98.5 % (95.7–99.5), base 0.0 % (0.0–1.9)``, one text a benchmark."""
    words = []
    for benchmark in dict.fromkeys(score.benchmark for score in run.scores):
        own = [score for score in run.scores if score.benchmark == benchmark]
        own.sort(key=lambda score: score.model != "student")
        words.append(f"{benchmark}: " + ", ".join(f"{score.model} {interval(score)}" for score in own))
    return words
