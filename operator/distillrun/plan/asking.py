"""What asking models costs: the tokens that their providers bill, as a stage tells them, times the endpoints' prices.

A stage tells all tokens that this run has paid for its dataset, over all attempts and by model: its progress, its last
message and those of the attempts after it say the same growing number. So for each dataset (fingerprint) and model the
largest number that was heard counts, once, however often, late or in whatever order it is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from distillrun.api.status import LARGEST, MOST, Asked, Stage, StageCost
from distillrun.api.v1alpha1 import Price, Spec
from distillrun.plan import cost, outcome
from distillrun.plan.model import Observed, Pod

ITEMS = 16
"""Models of datasets told apart, more than twice what one dataset can have. A spec that is edited after a failure makes
another dataset; the oldest are added up."""
_MARK = 16
_MILLION = 1_000_000
_GAUGES = ("paid_prompt_tokens", "paid_completion_tokens")
_NUMBERS = ("promptTokens", "completionTokens")
"""Of each model under `paid`."""


def advance(stage: Stage, spec: Spec, observed: Observed) -> StageCost | None:
    """The stage's cost with what its pods say of tokens; its other parts as they are."""
    prices = spec.asking_prices
    if stage.name != "curate" or not prices:
        return stage.cost
    pods = [pod for pod in observed.pods.values() if pod.job == stage.job_name]
    scrapes = [observed.scrapes[pod.name].numbers for pod in pods if pod.name in observed.scrapes]
    ends = list(_ends(pods))
    known = stage.cost or StageCost()
    asked = known.asked
    for model, price in prices.items():
        told = [tuple(_count(said, f'{name}{{model="{model}"}}') for name in _GAUGES) for said in scrapes]
        told += [tuple(_count(_of(numbers, model), name) for name in _NUMBERS) for numbers in ends]
        asked = heard(asked, stage.fingerprint, model, told, price)
    if asked == known.asked:
        return stage.cost
    return known.model_copy(update={"asked": asked, "asking": text(total(asked))})


def heard(
    asked: list[Asked], fingerprint: str, model: str, told: Iterable[tuple[int, ...]], price: Price
) -> list[Asked]:
    """The tokens of each dataset and model, with what was told of one: (prompt, completion) tokens."""
    mark = fingerprint[:_MARK]
    before = next((item for item in asked if (item.dataset, item.model) == (mark, model)), None)
    prompt = max([before.input if before else 0, *(pair[0] for pair in told)])
    completion = max([before.output if before else 0, *(pair[1] for pair in told)])
    if not prompt and not completion:
        return asked
    amount = (prompt * Decimal(price.input) + completion * Decimal(price.output)) / _MILLION
    item = Asked(dataset=mark, model=model, input=prompt, output=completion, amount=text(amount))
    if before is not None:
        return [item if each is before else each for each in asked]
    ours = [each for each in asked if each.dataset == mark]
    others = [each for each in asked if each.dataset != mark]
    while len(others) + len(ours) >= ITEMS:
        first, second, *rest = others
        both = text(Decimal(first.amount) + Decimal(second.amount))
        some = (min(first.input + second.input, MOST), min(first.output + second.output, MOST))
        others = [Asked(dataset="", input=some[0], output=some[1], amount=both), *rest]
    return [*others, *ours, item]


def total(asked: Iterable[Asked]) -> Decimal:
    """Cost of all datasets."""
    return sum((Decimal(item.amount) for item in asked), Decimal(0))


def of(stages: Iterable[Stage]) -> Decimal:
    """Cost of asking of these stages, as their status tells it."""
    return sum((Decimal(stage.cost.asking) for stage in stages if stage.cost is not None), Decimal(0))


def text(amount: Decimal) -> str:
    """An amount as status holds it, to a hundredth of a cent."""
    return cost.tally(min(amount, Decimal(LARGEST)))


def _ends(pods: Iterable[Pod]) -> Iterable[Mapping[str, Any]]:
    """Numbers of the pods' last messages, less those of a result that another run has paid."""
    for pod in pods:
        message = outcome.parse(pod.end.message) if pod.end is not None else None
        if message is not None and not message.reused_from and message.numbers is not None:
            yield message.numbers


def _of(numbers: Mapping[str, Any], model: str) -> Mapping[str, Any]:
    """What a last message says that was paid to a model."""
    paid = numbers.get("paid")
    found = paid.get(model) if isinstance(paid, dict) else None
    return found if isinstance(found, dict) else {}


def _count(numbers: Mapping[str, Any], name: str) -> int:
    """A count that a pod tells, 0 for what is none: it is the pod's text."""
    value = numbers.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return int(value) if math.isfinite(value) and 0 <= value <= MOST else 0
