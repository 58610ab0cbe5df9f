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
    sources = {source["name"]: source for source in recipe("sky-t1-smoke")["spec"]["curate"]["sources"]}
    found = {name: texts(source, claim) for name, source in sources.items()}
    for name, (short, long) in pools.SIZES.items():
        questions = [question for _, question in found[name]]
        added = pools.LEAKED.get(name, 0)
        added += {"math": pools.REPEATED, "stories": pools.RETOLD, "tasks": pools.SHARED}.get(name, 0)
        assert len(questions) == short + long + added
        assert sum(columns(question) == 4 for question in questions) >= long
    assert len(found["math"]) - len(set(found["math"])) == pools.REPEATED
    shared = {question for _, question in found["math"]} & {question for _, question in found["tasks"]}
    assert len(shared) == pools.SHARED
