"""The demo's files fit each other, the operator's API and the restricted Pod Security Standard."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from distillrun.api.v1alpha1 import Spec
from distillstages.demo import pools
from distillstages.demo.teacher import MODEL
from tests import recipes
from tests.charts.conftest import ROOT, one
from tests.charts.restricted import pod_specs, violations

Object = dict[str, Any]
SAMPLES = ROOT / "manifests" / "samples"
IMAGES = {"curate": "localhost/distillrun/curate:abc", "train": "localhost/distillrun/train:def"}


@pytest.fixture
def world() -> list[Object]:
    return list(yaml.safe_load_all((SAMPLES / "demo-world.yaml").read_text()))


@pytest.fixture
def run() -> Object:
    made: Object = yaml.safe_load((SAMPLES / "demo.yaml").read_text())
    return made


@pytest.fixture
def made_ready(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], str]:
    """What hack/demo makes of demo-world.yaml."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "hack" / "demo"), *sys.path])
    import sample

    made: Callable[[dict[str, str]], str] = sample.world
    return made


def test_every_pod_of_the_demo_is_restricted_compliant(world: list[Object]) -> None:
    specs = pod_specs(world)
    assert set(specs) == {"Deployment/teacher", "Job/seed"}
    assert {name: violations(spec) for name, spec in specs.items()} == {name: [] for name in specs}
    assert all(not spec["automountServiceAccountToken"] for spec in specs.values())


def test_the_demos_namespace_enforces_restricted_and_holds_everything(world: list[Object], run: Object) -> None:
    namespace = one(world, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [each for each in world if each["kind"] != "Namespace"]
    assert {each["metadata"]["namespace"] for each in [*others, run]} == {namespace["metadata"]["name"]}


def test_the_demos_run_is_valid(run: Object) -> None:
    spec = Spec.model_validate(run["spec"])
    assert spec.train.global_batch_size % (spec.train.nodes * spec.train.micro_batch_size) == 0


def test_what_the_run_names_is_there(world: list[Object], run: Object) -> None:
    spec = Spec.model_validate(run["spec"])
    endpoint = spec.models[0].endpoint
    assert endpoint.api_key_secret_ref is not None
    secret = one(world, "Secret", endpoint.api_key_secret_ref.name)
    assert endpoint.api_key_secret_ref.key in secret["stringData"]
    assert spec.storage.claim_name == one(world, "PersistentVolumeClaim")["metadata"]["name"]
    service = one(world, "Service")
    assert endpoint.url == f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}/v1"
    assert endpoint.model == MODEL


def test_the_seed_writes_where_the_run_reads(world: list[Object], run: Object) -> None:
    (seed,) = one(world, "Job")["spec"]["template"]["spec"]["containers"]
    output = seed["command"][seed["command"].index("--output") + 1]
    spec = Spec.model_validate(run["spec"])
    assert spec.evaluate is not None
    read = [spec.student.model.uri, spec.curate.sources[0].uri, spec.evaluate.benchmarks[0].uri]
    assert [uri.removeprefix("file://") for uri in read] == [
        f"{output}/{name}" for name in ("pupil", "train.jsonl", "test.jsonl")
    ]
    assert any(output.startswith(mount["mountPath"]) for mount in seed["volumeMounts"])


def test_teacher_and_run_read_the_same_key(world: list[Object], run: Object) -> None:
    (teacher,) = one(world, "Deployment")["spec"]["template"]["spec"]["containers"]
    (variable,) = teacher["env"]
    reference = variable["valueFrom"]["secretKeyRef"]
    assert variable["name"] == "TEACHER_API_KEY"
    assert reference == run["spec"]["models"][0]["endpoint"]["apiKeySecretRef"]


def test_the_demo_puts_its_own_images_and_a_random_key_into_the_world(
    world: list[Object], made_ready: Callable[[dict[str, str]], str]
) -> None:
    ready = list(yaml.safe_load_all(made_ready(IMAGES)))
    assert {spec["containers"][0]["image"] for spec in pod_specs(ready).values()} == set(IMAGES.values())
    keys = {one(objects, "Secret")["stringData"]["apiKey"] for objects in (world, ready)}
    another = one(list(yaml.safe_load_all(made_ready(IMAGES))), "Secret")["stringData"]["apiKey"]
    assert len({*keys, another}) == 3
    assert len(another) == 32


def test_an_image_that_the_demo_has_not_built_is_an_error(made_ready: Callable[[dict[str, str]], str]) -> None:
    with pytest.raises(KeyError, match="train"):
        made_ready({"curate": "x:1"})


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.yaml")), ids=lambda path: str(path.name))
def test_every_sample_is_yaml_of_named_objects(path: Path) -> None:
    for each in yaml.safe_load_all(path.read_text()):
        assert each["kind"]
        assert each["metadata"]["name"]


@pytest.mark.parametrize("name", ["s1", "s1-questions", "sky-t1", "sky-t1-questions"])
def test_a_recipe_is_a_run_that_fits_its_gpus(name: str) -> None:
    path = ROOT / "manifests" / "recipes" / f"{name}.yaml"
    spec = Spec.model_validate(yaml.safe_load(path.read_text())["spec"])
    assert spec.evaluate is not None
    assert [each.name for each in spec.evaluate.benchmarks] == ["math500", "aime24", "gpqa-diamond"]
    command = [sys.executable, "-m", "distillrun", "estimate", str(path)]
    told = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "operator")}
    )
    assert "Feasible  True (Fits)" in told.stdout, told.stdout + told.stderr


@pytest.mark.parametrize("name", recipes.SMOKE)
def test_a_small_recipe_finds_everything_in_the_demos_world(name: str, run: Object, tmp_path: Path) -> None:
    small = recipes.recipe(name)
    assert small["metadata"]["namespace"] == run["metadata"]["namespace"]
    spec, demo = Spec.model_validate(small["spec"]), Spec.model_validate(run["spec"])
    assert (spec.storage, spec.student) == (demo.storage, demo.student)
    assert spec.evaluate is not None
    for theirs, ours in zip(spec.models, demo.models, strict=True):
        assert theirs.endpoint.model_copy(update={"request_timeout_seconds": 10}) == ours.endpoint
    pools.write_pools(tmp_path / "demo/pools", seed=42)
    for rows in [*spec.curate.sources, *spec.evaluate.benchmarks]:
        assert Path(rows.uri.replace(recipes.MOUNTED, str(tmp_path))).is_file()


@pytest.mark.parametrize("name", ["s1", "sky-t1"])
def test_a_recipe_trains_and_evaluates_alike_from_questions_and_from_published_traces(name: str) -> None:
    published, questions = (recipes.recipe(each)["spec"] for each in (name, f"{name}-questions"))
    for part in ("train", "evaluate", "student", "storage"):
        assert published[part] == questions[part]
    assert published["curate"]["traceFormat"] == questions["curate"]["traceFormat"]


@pytest.mark.parametrize(("small", "whole"), [("s1-smoke", "s1"), ("sky-t1-smoke", "sky-t1")])
def test_a_small_recipe_trains_as_the_whole_one_but_for_what_a_cpu_and_a_small_pupil_need(
    small: str, whole: str
) -> None:
    theirs, ours = ({**recipes.recipe(name)["spec"]["train"]} for name in (small, whole))
    differ = {key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)}
    differ -= {"nodes", "gpusPerNode", "gpuProduct", "globalBatchSize", "microBatchSize", "pod"}
    assert differ <= {"learningRate", "betas", "maxSequenceLength", "precision", "gradientCheckpointing", "checkpoint"}
    formats = {recipes.recipe(name)["spec"]["curate"]["traceFormat"] for name in (small, whole)}
    assert len(formats) == 1
