"""What the API server itself accepts and refuses: the schema, the rules across fields, what may change when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kube import Kube
from tests.unit.builders import spec

RECIPES = Path(__file__).parents[2] / "manifests" / "recipes"

pytestmark = pytest.mark.controlplane


def a_run(namespace: str, name: str = "s1", **changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "distillrun.dev/v1alpha1",
        "kind": "DistillRun",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec(**changes),
    }


def with_field(thing: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    copy = json.loads(json.dumps(thing))
    node = copy["spec"]
    *parents, last = path.split(".")
    for part in parents:
        node = node[int(part)] if part.isdigit() else node.setdefault(part, {})
    if value is None:
        del node[last]
    else:
        node[last] = value
    return copy


def test_a_small_run_is_accepted_and_gets_a_practitioners_defaults(api_server: Kube, namespace: str) -> None:
    api_server.apply(a_run(namespace))
    stored = api_server.get("distillrun", "s1", namespace)
    assert stored is not None
    train = stored["spec"]["train"]
    assert (train["learningRate"], train["deepspeed"]["zeroStage"], train["onOverlong"]) == ("1e-5", 3, "Fail")
    assert train["checkpoint"] == {"everySteps": 100, "keep": 2}
    assert stored["spec"]["curate"]["generate"]["temperature"] == "0.7"
    assert stored["status"]["observedGeneration"] == -1


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("teacher", "nobody", "names no item of spec.models"),
        ("models.0.terms", None, "needs terms"),
        ("models.0.terms.trainingPermitted", False, "do not permit training"),
        ("gates.0.benchmark", "other", "must be the name of one of evaluate.benchmarks"),
        ("gates.0.atLeast", "95", 'write "0.95" for 95 %'),
        ("train.globalBatchSize", 7, "must be a multiple of microBatchSize × nodes × gpusPerNode"),
        ("train.epochs", "3", "keep one of them"),
        ("train.deepspeed", {"zeroStage": 2}, "needs zeroStage 3"),
        ("train.learningRate", "0", "learningRate must be above 0.0"),
        ("train.learningRate", "fast", "should match"),
        ("train.nodes", 0, "greater than or equal to 1"),
        ("curate.generate.temperature", "3", "temperature must be from 0.0 to 2.0"),
        ("curate.generate", {"reasoningDelimiters": {"open": "|", "close": "|"}}, "open and close must differ"),
        ("mirror", {"uri": "hub.corp.example"}, "should match"),
        ("mirror", {"uri": "https://hub.corp.example/?a=b"}, "should match"),
        ("curate.decontaminate", {"against": [{"name": "a", "uri": "x.jsonl"}]}, "should match"),
        ("curate.sources", [], "exactly one of sources and dataset"),
        ("curate.dataset", {"uri": "hf://datasets/a/b"}, "exactly one of sources and dataset"),
        ("curate", {"dataset": {"uri": "hf://datasets/a/b"}}, "remove it with dataset"),
        (
            "curate",
            {"dataset": {"uri": "hf://datasets/a/b", "fields": {"layout": "ShareGPT", "thinking": "t"}}},
            "thinking and response belong to layout: Columns",
        ),
        ("teacher", None, "set teacher with sources"),
        ("models", None, "names no item of spec.models"),
        ("curate.sources.0.uri", "ftp://x/y", "should match"),
        ("curate.sources.0.pick", "Random", "pick: Random needs take"),
        ("curate.sources.0.filters", [{"column": "a"}], "exactly one of oneOf, contains and lacks"),
        ("curate.sources.0.filters", [{"column": "a", "oneOf": ["b"], "lacks": ["c"]}], "exactly one of oneOf"),
        ("curate.sources.0.share", "0", "share must be above 0"),
        ("curate.deduplicate", {"near": "1.2"}, "deduplicate.near must be above 0 up to 1"),
        ("curate.select", {"strategy": "Longest"}, "select.size belongs to every strategy but All"),
        ("curate.select", {"size": 5}, "select.size belongs to every strategy but All"),
        (
            "curate.select",
            {"strategy": "Random", "size": 5, "preselect": [{"source": "pool"}]},
            "select.preselect belongs to strategy S1",
        ),
        (
            "curate.select",
            {"strategy": "S1", "size": 5, "preselect": [{"source": "nobody"}]},
            "must be the name of one of curate.sources",
        ),
        (
            "curate.sources",
            [{"name": name, "uri": "file:///x.jsonl", **share} for name, share in (("a", {"share": "1"}), ("b", {}))],
            "either all of them have a share or none",
        ),
        (
            "curate.difficulty",
            {"models": ["nobody"]},
            "curate.difficulty.models must be the name of one of spec.models",
        ),
        ("curate.difficulty", {"models": []}, "at least 1 items"),
        ("curate.difficulty", {"models": ["teacher"], "maxPassRate": "0.5"}, "belong to keep: PassRate"),
        ("curate.difficulty", {"models": ["teacher"], "keep": "PassRate"}, "needs minPassRate, maxPassRate or both"),
        (
            "curate.difficulty",
            {"models": ["teacher"], "keep": "PassRate", "minPassRate": "0.5", "maxPassRate": "0.4"},
            "the first not above the second",
        ),
        ("curate.difficulty", {"models": ["teacher"], "keep": "Score"}, "set both or neither"),
        (
            "curate.difficulty",
            {"models": ["teacher"], "keep": "Score", "samples": 2, "scores": [{"source": "pool", "min": 4}]},
            "asks one model once",
        ),
        (
            "curate.difficulty",
            {"models": ["teacher"], "keep": "Score", "scores": [{"source": "nobody", "min": 4}]},
            "scores[].source must be the name of one of curate.sources",
        ),
        (
            "curate.difficulty",
            {"models": ["teacher"], "keep": "Score", "scores": [{"source": "pool", "min": 5, "max": 4}]},
            "min is above max",
        ),
        ("curate.domains", {"model": "nobody"}, "curate.domains.model must be the name of one of spec.models"),
        ("curate.domains", {}, "exactly one of model and column"),
        ("curate.domains", {"column": "a", "labels": ["b"]}, "labels belong to domains.model"),
        ("curate.rewrite", {"model": "nobody"}, "curate.rewrite.model must be the name of one of spec.models"),
        (
            "curate",
            {**spec()["curate"], "rewrite": {"model": "teacher"}, "verify": {"wrong": "Keep"}},
            "needs verify.wrong: Reject",
        ),
        ("curate", {"dataset": {"uri": "hf://datasets/a/b"}, "domains": {"column": "a"}}, "asks nobody"),
        ("curate.sources.0.fields", {"input": "context"}, "belongs to layout: Alpaca"),
        ("curate.sources.0.fields", {"layout": "Alpaca", "choices": ["a"]}, "belong to layout: MultipleChoice"),
        ("evaluate.benchmarks.0.fields", {"answerIs": "Text"}, "belong to layout: MultipleChoice"),
        ("curate.sources.0.fields", {"tests": "t"}, "layouts CodeTests and HumanEval have fields.tests"),
        ("curate.sources.0.fields", {"layout": "CodeTests", "answer": "a"}, "and the others fields.answer"),
        ("curate.sources.0.fields", {"layout": "CodeTests", "entryPoint": "e"}, "fields.entryPoint to HumanEval"),
        ("evaluate.benchmarks.0.fields", {"layout": "CodeTests"}, "grader: Code goes with the layouts"),
        ("evaluate.benchmarks.0.grader", "Code", "grader: Code goes with the layouts"),
        ("curate.traceFormat", "Loud", "supported values"),
        ("curate.pod.env", [{"name": "DISTILLRUN_X", "value": "1"}], "belong to the operator"),
        ("storage", {"claimName": "a", "claimTemplate": {"size": "1Gi"}}, "exactly one of claimName and claimTemplate"),
        ("storage", {}, "exactly one of claimName and claimTemplate"),
        ("storage", {"claimTemplate": {"size": "1Gi"}}, "add ReadWriteMany"),
        ("evaluate", None, "needs spec.evaluate"),
        ("models.0.endpoint.url", "teacher:8080", "should match"),
        ("models.0.endpoint", None, "exactly one of endpoint and server"),
        ("models.0.server", {"model": {"uri": "hf://a/b"}}, "exactly one of endpoint and server"),
    ],
)
def test_a_spec_that_breaks_a_rule_is_refused_with_a_sentence(
    api_server: Kube, namespace: str, path: str, value: Any, words: str
) -> None:
    said = api_server.refusal(with_field(a_run(namespace), path, value))
    assert words in said, said


def test_only_a_model_whose_answers_are_trained_on_needs_terms(api_server: Kube, namespace: str) -> None:
    weak = {"name": "weak", "endpoint": {"url": "http://weak:8080/v1", "model": "small"}}
    steps = {"difficulty": {"models": ["weak"]}, "domains": {"model": "weak"}}
    thing = a_run(namespace, models=[*spec()["models"], weak], curate={**spec()["curate"], **steps})
    api_server.apply(thing)
    said = api_server.refusal(with_field(thing, "curate.rewrite", {"model": "weak"}))
    assert "must say that this is permitted" in said
    thing["spec"]["models"][1]["terms"] = {"trainingPermitted": False, "reference": "https://example.com/terms"}
    assert "must say that this is permitted" in api_server.refusal(
        with_field(thing, "curate.rewrite", {"model": "weak"})
    )


def test_a_run_on_a_published_dataset_needs_no_model_and_no_teacher(api_server: Kube, namespace: str) -> None:
    published = a_run(namespace, models=None, teacher=None, curate={"dataset": {"uri": "hf://datasets/a/traces"}})
    api_server.apply(published)
    stored = api_server.get("distillrun", "s1", namespace)
    assert stored is not None
    assert not {"models", "teacher"} & set(stored["spec"])
    assert stored["spec"]["curate"]["dataset"]["fields"] == {"layout": "Columns", "id": ""}


def test_a_teacher_that_the_run_serves_itself_needs_no_terms(api_server: Kube, namespace: str) -> None:
    served = [{"name": "big", "server": {"model": {"uri": "hf://a/b"}}}]
    api_server.apply(a_run(namespace, models=served, teacher="big"))
    four = [{**served[0], "name": name} for name in ("big", "b", "c", "d")]
    assert "at most 3 of spec.models can have a server" in api_server.refusal(
        a_run(namespace, models=four, teacher="big")
    )
    forbidden = [{**served[0], "terms": {"trainingPermitted": False, "reference": "https://example.com"}}]
    assert "do not permit training" in api_server.refusal(a_run(namespace, models=forbidden, teacher="big"))


def test_an_unknown_field_is_refused_by_name(api_server: Kube, namespace: str) -> None:
    wrong = with_field(a_run(namespace), "train.learningrate", "1e-5")
    assert "learningrate" in api_server.refusal(wrong)
    assert "learningrate" in api_server.refusal(wrong, verb="create")


def test_a_name_of_63_characters_is_taken_and_one_of_64_is_refused(api_server: Kube, namespace: str) -> None:
    api_server.apply(a_run(namespace, name="a" * 63))
    assert "at most 63 characters" in api_server.refusal(a_run(namespace, name="a" * 64))


def test_two_runs_of_one_name_live_in_two_namespaces(api_server: Kube, namespace: str) -> None:
    other = f"{namespace}-b"
    api_server.must("create", "namespace", other)
    api_server.apply(a_run(namespace), a_run(other))
    assert api_server.get("distillrun", "s1", other) is not None
    api_server.must("delete", "namespace", other, "--wait=false")


def stages(**states: str) -> dict[str, Any]:
    return {"observedGeneration": 1, "stages": [{"name": name, "state": state} for name, state in states.items()]}


@pytest.mark.parametrize(
    ("states", "path", "value"),
    [
        ({"curate": "Running"}, "curate.sources.0.uri", "file:///other.jsonl"),
        ({"curate": "Running"}, "models.0.endpoint.model", "other"),
        ({"curate": "Succeeded", "train": "Running"}, "train.learningRate", "2e-5"),
        ({"curate": "Succeeded", "train": "Running"}, "train.deepspeed.config", {"zero_optimization": {"x": 1}}),
        ({"curate": "Succeeded", "train": "Running"}, "student.model.uri", "file:///other"),
        ({"curate": "Succeeded", "train": "Succeeded", "evaluate": "Running"}, "evaluate.benchmarks.0.samples", 9),
        ({"curate": "Running"}, "storage.claimName", "other"),
        ({"curate": "Running"}, "seed", 1),
    ],
)
def test_what_a_running_stage_was_computed_from_cannot_change(
    api_server: Kube, namespace: str, states: dict[str, str], path: str, value: Any
) -> None:
    api_server.apply(a_run(namespace))
    api_server.patch_status("s1", namespace, stages(**states))
    said = api_server.refusal(with_field(a_run(namespace), path, value))
    assert f"spec.{path.split('.')[0]} cannot change any more" in said


@pytest.mark.parametrize(
    ("states", "path", "value"),
    [
        ({"curate": "Pending"}, "curate.sources.0.uri", "file:///other.jsonl"),
        ({"curate": "Failed"}, "curate.sources.0.uri", "file:///other.jsonl"),
        ({"curate": "Running"}, "train.learningRate", "2e-5"),
        ({"curate": "Succeeded", "train": "Running"}, "evaluate.benchmarks.0.samples", 9),
        ({"curate": "Succeeded", "train": "Running"}, "gates.0.atLeast", "0.5"),
        ({"curate": "Succeeded", "train": "Running"}, "budget.gpuHourPrice", "1"),
        ({"curate": "Succeeded", "train": "Running"}, "serve.replicas", 2),
        ({"curate": "Succeeded", "train": "Running"}, "maxRetries", 9),
    ],
)
def test_what_no_stage_was_computed_from_yet_may_change(
    api_server: Kube, namespace: str, states: dict[str, str], path: str, value: Any
) -> None:
    api_server.apply(a_run(namespace))
    api_server.patch_status("s1", namespace, stages(**states))
    api_server.apply(with_field(a_run(namespace), path, value))


@pytest.mark.parametrize("name", ["s1", "s1-questions", "s1-smoke", "sky-t1", "sky-t1-questions", "sky-t1-smoke"])
def test_a_recipe_is_accepted(api_server: Kube, namespace: str, name: str) -> None:
    recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    recipe["metadata"]["namespace"] = namespace
    api_server.apply(recipe)


def test_what_questions_are_compared_with_stays_while_curation_runs(api_server: Kube, namespace: str) -> None:
    api_server.apply(a_run(namespace))
    api_server.patch_status("s1", namespace, stages(curate="Running"))
    other = with_field(a_run(namespace), "evaluate.benchmarks.0.uri", "file:///other.jsonl")
    assert "spec.evaluate.benchmarks' data cannot change" in api_server.refusal(other)
    api_server.apply(with_field(a_run(namespace), "evaluate.benchmarks.0.take", 5))
    api_server.patch_status("s1", namespace, stages(curate="Succeeded", train="Running"))
    api_server.apply(other)


def test_the_whole_definition_is_under_200_kilobytes(api_server: Kube) -> None:
    text = api_server.must("get", "crd", "distillruns.distillrun.dev", "-o", "json")
    assert len(json.dumps(json.loads(text)["spec"])) < 200_000


def test_kubectl_get_shows_phase_stage_progress_cost_and_score(api_server: Kube, namespace: str) -> None:
    api_server.apply(a_run(namespace))
    api_server.patch_status(
        "s1",
        namespace,
        {"phase": "Training", "stage": "train", "progress": "40%", "score": "", "cost": {"spent": "1.20"}},
    )
    shown = api_server.must("get", "dr", "-n", namespace)
    assert shown.split()[:6] == ["NAME", "PHASE", "STAGE", "PROGRESS", "COST", "SCORE"]
    assert "Training" in shown
    assert "40%" in shown
