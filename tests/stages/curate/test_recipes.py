"""Curation as the small recipes ask for it, over the pools that the demo's world makes for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from distillrun.api.status import Resolved
from distillrun.api.v1alpha1 import Spec
from distillrun.plan.stageconfig import Inputs, stage_config
from distillstages.demo import pools
from distillstages.demo.teacher import Temper
from tests.recipes import MOUNTED, SMOKE, TEACHER_SEED, Curated, check_funnel, check_s1, columns, recipe, texts
from tests.stages.curate.conftest import Stage
from tests.stages.curate.test_teachers_known import demo_teacher
from tests.unit.builders import run


@pytest.fixture(scope="module")
def claim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the claim is after the demo's seed Job, pupil aside."""
    folder = tmp_path_factory.mktemp("claim")
    pools.write_pools(folder / "demo/pools", seed=42)
    return folder


@pytest.mark.parametrize("name", SMOKE)
def test_a_small_recipe_curates_what_its_pools_imply(name: str, claim: Path, tmp_path: Path) -> None:
    thing = recipe(name)
    spec = thing["spec"]
    a_run = run(name=name, spec=spec)
    block = stage_config(a_run, Spec.model_validate(spec), "curate", "f" * 64, 1, Inputs({}, Resolved()))["curate"]
    for place in [*block["sources"], *block["decontaminate"]["against"]]:
        place["uri"] = place["uri"].replace(MOUNTED, claim.as_uri())
    with demo_teacher(Temper(throttle=0, hang=0, seed=TEACHER_SEED)) as (teacher, url):
        block["teacher"]["url"] = url
        stage = Stage(tmp_path, block, environment={block["teacher"]["apiKey"]["env"]: teacher.key})
        finished = stage.run()
    assert finished.code == 0, finished.log
    curated = Curated.of(stage.output)
    assert teacher.outcomes["right"] + teacher.outcomes["wrong"] == len(curated.asked)
    check_funnel(spec, claim, curated)
    if name == "s1-smoke":
        check_s1(spec, curated)


def test_the_pools_hold_what_they_say(claim: Path) -> None:
    sources = {source["name"]: source for source in recipe("s1-smoke")["spec"]["curate"]["sources"]}
    found = {name.replace("gpqa", "choices"): texts(source, claim) for name, source in sources.items()}
    more = {"math": pools.REPEATED, "stories": pools.RETOLD, "tasks": pools.SHARED}
    for name, size in pools.SIZES.items():
        assert len(found[name]) == size + pools.LEAKED.get(name, 0) + more.get(name, 0)
        digits = {columns(question) for _, question in found[name]}
        assert digits == {4 if name == "aime" else 3}
    questions = {name: [question for _, question in pool] for name, pool in found.items()}
    assert len(questions["math"]) - len(set(questions["math"])) == pools.REPEATED
    assert len(set(questions["math"]) & set(questions["tasks"])) == pools.SHARED
