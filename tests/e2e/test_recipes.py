"""The small recipes, applied as they are shipped, from question pools to scores. On a real node."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.world import World, losses
from tests.kube import condition, stage
from tests.recipes import Curated, check_funnel, check_s1, recipe

pytestmark = [pytest.mark.node, pytest.mark.e2e, pytest.mark.timeout(1200)]


def check_training(world: World, status: dict[str, Any]) -> None:
    """Losses fall, and the student is better than the model it was made from."""
    by_step = losses(world.artifact(stage(status, "train")["artifact"]))
    values = [by_step[step][1] for step in sorted(by_step)]
    assert sum(values[-5:]) < 0.3 * sum(values[:5])
    scores = {(each["benchmark"], each["model"]): float(each["value"]) for each in status["scores"]}
    assert scores["additions", "student"] > scores["additions", "base"]
    assert condition(status, "GatesPassed")["status"] == "True"


def test_sky_t1s_small_recipe_ends_as_its_pools_imply(calm: World, served: dict[str, Any]) -> None:
    spec = recipe("sky-t1-smoke")["spec"]
    curated = Curated.of(calm.artifact(served["artifacts"]["dataset"]))
    check_funnel(spec, calm.claim(), curated)
    check_training(calm, served)


@pytest.mark.full
def test_s1s_small_recipe_ends_as_its_pools_imply(calm: World) -> None:
    thing = calm.recipe("s1-smoke")
    calm.kube.apply(thing)
    status = calm.until("s1-smoke", "Succeeded", lambda s: s.get("phase") == "Succeeded", seconds=900)
    curated = Curated.of(calm.artifact(status["artifacts"]["dataset"]))
    check_funnel(thing["spec"], calm.claim(), curated)
    check_s1(thing["spec"], curated)
    check_training(calm, status)
