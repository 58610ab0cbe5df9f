"""Names, fingerprints, cost, gates, outcomes: the planner's parts, by table and by property."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillrun.api.stages import Gate
from distillrun.api.status import Resolved, Score
from distillrun.api.v1alpha1 import Spec
from distillrun.plan import cost, names, outcome, reasons
from distillrun.plan.fingerprint import fingerprint
from distillrun.plan.gates import judge
from distillrun.plan.progress import flatten
from distillrun.plan.revisions import unchecked
from tests.unit.builders import at, ended, job, pod, run, spec

RUN_NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", fullmatch=True)


@given(RUN_NAMES, st.sampled_from(["curate", "train", "evaluate"]), st.integers(1, 999))
def test_job_names_are_dns_labels_with_room_for_the_index_of_a_pod(run: str, stage: str, attempt: int) -> None:
    name = names.job(run, stage, "f" * 64, attempt)
    assert len(f"{name}-511") <= 63
    assert name[0].isalpha()
    assert name.replace("-", "").isalnum()
    assert not name.endswith("-")


@given(RUN_NAMES, RUN_NAMES)
def test_two_runs_never_share_a_childs_name(one: str, other: str) -> None:
    if one != other:
        assert names.job(one, "train", "f" * 64, 1) != names.job(other, "train", "f" * 64, 1)
        assert names.server(one) != names.server(other)


def test_a_run_named_with_63_characters_has_children() -> None:
    name = names.server("a" * 63)
    assert len(name) <= 63
    assert name.endswith("-serve")


def changed(path: str, value: Any) -> Spec:
    raw = json.loads(json.dumps(spec()))
    node = raw
    *parents, last = path.split(".")
    for part in parents:
        node = node[int(part)] if part.isdigit() else node.setdefault(part, {})
    node[last] = value
    return Spec.model_validate(raw)


@pytest.mark.parametrize(
    ("path", "value", "stages"),
    [
        ("curate.sources.0.uri", "file:///other.jsonl", "curate"),
        ("curate.sources.0.filters", [{"column": "source", "oneOf": ["math"]}], "curate"),
        ("curate.generate", {"temperature": "0.1"}, "curate"),
        ("curate.generate", {"reasoningDelimiters": {"open": "[THINK]", "close": "[/THINK]"}}, "curate"),
        ("models.0.endpoint.model", "bigger", "curate"),
        ("models.0.endpoint.url", "http://elsewhere/v1", "curate"),
        ("seed", 7, "curate train evaluate"),
        ("curate.traceFormat", "SkyT1", "train evaluate"),
        ("curate.systemPrompt", "Think.", "train evaluate"),
        ("train.learningRate", "3e-5", "train"),
        ("train.nodes", 4, "train"),
        ("train.deepspeed", {"config": {"zero_optimization": {"reduce_bucket_size": 5}}}, "train"),
        ("student.model.uri", "hf://Qwen/Qwen2.5-7B-Instruct", "train evaluate"),
        ("evaluate.benchmarks.0.samples", 16, "evaluate"),
        ("evaluate.benchmarks.0.grader", "MultipleChoice", "evaluate"),
        ("evaluate.engine", {"maxModelLength": 4096}, "evaluate"),
        ("evaluate.alsoBaseModel", False, "evaluate"),
        ("curate.verify", {"wrong": "Keep"}, "curate"),
        ("curate.select", {"strategy": "Random", "size": 5}, "curate"),
        ("curate.deduplicate", {"near": "0.8"}, "curate"),
        ("curate.decontaminate", {"words": 10}, "curate"),
        ("curate.decontaminate", {"benchmarks": False}, "curate"),
        ("curate.decontaminate", {"against": [{"name": "held-out", "uri": "s3://pool/held-out.jsonl"}]}, "curate"),
        ("curate.difficulty", {"models": ["teacher"]}, "curate"),
        ("curate.domains", {"column": "subject"}, "curate"),
        ("curate.rewrite", {"model": "teacher"}, "curate"),
        # Other questions to leave out are another dataset; the same benchmark, evaluated otherwise, is not.
        ("evaluate.benchmarks.0.uri", "file:///other.jsonl", "curate evaluate"),
        ("evaluate.benchmarks.0.take", 5, "evaluate"),
        ("evaluate.benchmarks.0.temperature", "0.6", "evaluate"),
        # What only costs time, place or patience changes nothing.
        ("models.0.endpoint.maxConcurrency", 3, ""),
        ("models.0.endpoint.requestsPerMinute", 3, ""),
        ("models.0.endpoint.requestsPerDay", 3, ""),
        ("models.0.endpoint.tokensPerMinute", 3, ""),
        ("models.0.endpoint.requestTimeoutSeconds", 3, ""),
        ("models.0.endpoint.apiKeySecretRef.name", "other", ""),
        ("curate.pod", {"image": "x/y:2"}, ""),
        ("train.pod", {"nodeSelector": {"a": "b"}}, ""),
        ("train.checkpoint", {"everySteps": 7}, ""),
        ("evaluate.engine", {"maxConcurrency": 9}, ""),
        ("maxRetries", 9, ""),
        ("budget.gpuHourPrice", "9", ""),
        ("gates.0.atLeast", "0.1", ""),
        ("storage.claimName", "elsewhere", ""),
        ("mirror", {"uri": "s3://mirror/hub"}, ""),
    ],
)
def test_what_changes_an_output_changes_the_fingerprint_and_what_does_not_does_not(
    path: str, value: Any, stages: str
) -> None:
    base, other = Spec.model_validate(spec()), changed(path, value)
    found = Resolved()
    differ = {
        s
        for s in ("curate", "train", "evaluate")
        if fingerprint(run(), base, s, "", found) != fingerprint(run(), other, s, "", found)
    }
    assert differ == set(stages.split())


def test_of_the_models_that_curation_asks_count_place_and_name_there_and_of_the_others_nothing() -> None:
    def mark(asked: str = "small", **endpoint: Any) -> str:
        small = {"name": "small", "endpoint": {"url": "http://small/v1", "model": "s", **endpoint}}
        curate = {**spec()["curate"], **({"difficulty": {"models": [asked]}} if asked else {})}
        whole = spec(models=[*spec()["models"], {**small, "name": asked or "small"}], curate=curate)
        return fingerprint(run(), Spec.model_validate(whole), "curate", "", Resolved())

    assert mark() == mark("other-name") == mark(requestsPerDay=9)
    assert len({mark(), mark(""), mark(url="http://elsewhere/v1"), mark(model="s2")}) == 4
    assert (
        mark("")
        == mark("", url="http://elsewhere/v1")
        == fingerprint(run(), Spec.model_validate(spec()), "curate", "", Resolved())
    )


def test_a_published_dataset_counts_by_its_content_and_its_mapping_and_nothing_else() -> None:
    def mark(revision: str = "a" * 40, **dataset: Any) -> str:
        whole = spec(models=None, teacher=None, curate={"dataset": {"uri": "hf://datasets/a/b", **dataset}})
        resolved = Resolved.model_validate({"sources": [{"name": "dataset", "revision": revision}]})
        return fingerprint(run(), Spec.model_validate(whole), "curate", "", resolved)

    assert mark() == mark(secretName="hf") == mark(revision="a" * 40)
    others = [mark("b" * 40), mark(take=5), mark(split="test"), mark(fields={"thinking": "t"})]
    assert len({mark(), *others}) == 5


def test_what_else_questions_are_compared_with_counts_by_its_revision_in_any_order_and_not_by_name_or_secret() -> None:
    def mark(*against: dict[str, str], revision: str = "a" * 40) -> str:
        given = Spec.model_validate(spec(curate={**spec()["curate"], "decontaminate": {"against": list(against)}}))
        found = [{"name": each["name"], "revision": revision} for each in against]
        resolved = Resolved.model_validate({"against": found})
        return fingerprint(run(), given, "curate", "", resolved)

    one = {"name": "one", "uri": "hf://datasets/a/one"}
    two = {"name": "two", "uri": "hf://datasets/a/two"}
    base = mark(one, two)
    assert mark(two, one) == base
    assert mark({**one, "name": "uno", "secretName": "hf"}, two) == base
    assert mark(one, two, revision="b" * 40) != base
    assert mark(one) != base
    assert mark({**one, "split": "train"}, two) != base


@pytest.mark.parametrize(
    ("uri", "revision", "marked"),
    [
        ("hf://datasets/a/b", None, True),
        ("hf://datasets/a/b", "main", True),
        ("hf://datasets/a/b", "a" * 40, False),
        ("hf://datasets/a/b@" + "a" * 40, None, False),
        ("hf://datasets/a/b@main/x.jsonl", None, True),
        ("hf://datasets/a/b@" + "a" * 40 + "/x.jsonl", "main", True),
        ("s3://bucket/a.jsonl", None, False),
        ("file:///mnt/distillrun/a.jsonl", None, False),
    ],
)
def test_a_hub_repository_without_a_commit_is_one_that_nobody_has_checked(
    uri: str, revision: str | None, marked: bool
) -> None:
    assert unchecked(uri, revision) is marked


def test_a_changed_upstream_changes_every_later_fingerprint() -> None:
    base = Spec.model_validate(spec())
    assert fingerprint(run(), base, "train", "a", Resolved()) != fingerprint(run(), base, "train", "b", Resolved())


@given(st.integers(0, 10**6), st.integers(1, 64), st.integers(0, 10**6))
def test_a_pod_is_never_billed_less_than_it_used_nor_a_second_more(start: int, gpus: int, length: int) -> None:
    one = replace(pod("j"), gpus=gpus, scheduled=at(start))
    assert cost.pod_gpu_seconds(ended(one, 0, start + length), at(start + length + 999)) == gpus * length
    assert cost.pod_gpu_seconds(one, at(start + length)) == gpus * length


@pytest.mark.parametrize(
    ("seconds", "price", "expected"),
    [(3600.0, "2.96", "2.96"), (152 * 3600.0, "2.96", "449.92"), (36.0, "2.96", "0.0296"), (0.0, "3", "0.0000")],
)
def test_cost_is_gpu_hours_times_price(seconds: float, price: str, expected: str) -> None:
    assert cost.amount(seconds, price) == expected


def score(value: str, low: str = "0.9") -> Score:
    return Score(benchmark="b", model="student", metric="accuracy", value=value, low=low, high="1", samples=9)


@pytest.mark.parametrize(
    ("gate", "scores", "passed"),
    [
        (Gate(benchmark="b", at_least="0.95"), [score("0.95")], True),
        (Gate(benchmark="b", at_least="0.95"), [score("0.9499")], False),
        (Gate(benchmark="b", metric="AccuracyLowerBound", at_least="0.95"), [score("0.99", low="0.94")], False),
        (Gate(benchmark="b", at_least="0"), [], False),
    ],
)
def test_a_gate_compares_the_students_score_and_a_missing_one_does_not_pass(
    gate: Gate, scores: list[Score], passed: bool
) -> None:
    assert judge([gate], scores).passed is passed


DISRUPTED = ended(pod("j", 1, disrupted="EvictionByEvictionAPI"), 143)
OUT_OF_MEMORY = ended(pod("j", 1), 137, kubernetes_reason="OOMKilled")
BROKEN_ROW = ended(pod("j", 0), 65, reason="RowBroken", message="y")
BUSY = ended(pod("j", 1), 75, reason="Busy", message="y")
BOOM = ended(pod("j", 0), 70, message="x")
STALLED = ended(pod("j", 0), 70, reason=reasons.STALLED_STAGE, message="no step for 600 s")
SILENT = pod("j", 1, deleting=True)
"""On a node that does not answer: told to go, and nothing is heard."""
TOLD_TO_STOP = ended(pod("j", 1), 143, message="told to stop")


@pytest.mark.parametrize(
    ("pods", "kind", "reason"),
    [
        ([BOOM, DISRUPTED], "Disrupted", reasons.DISRUPTED),
        ([BROKEN_ROW, OUT_OF_MEMORY], "Permanent", reasons.OUT_OF_MEMORY),
        ([BUSY, BROKEN_ROW], "Permanent", "RowBroken"),
        ([BOOM, BUSY], "Temporary", "Busy"),
        ([BOOM, ended(pod("j", 1), 76, message="x")], "Fault", reasons.FAULT),
        ([TOLD_TO_STOP, BOOM], "Fault", reasons.FAULT),
        ([ended(pod("j", 0), 76), ended(pod("j", 1), 76)], "Fault", reasons.PEER_LOST),
        ([STALLED, SILENT], "Disrupted", reasons.NODE_LOST),
        ([STALLED, DISRUPTED], "Disrupted", reasons.DISRUPTED),
        ([STALLED, replace(STALLED, index=1)], "Fault", reasons.STALLED_STAGE),
        ([STALLED, TOLD_TO_STOP], "Fault", reasons.STALLED_STAGE),
        ([STALLED, ended(pod("j", 1), 76)], "Fault", reasons.STALLED_STAGE),
        ([STALLED, ended(pod("j", 1), 70, message="x")], "Fault", reasons.FAULT),
        ([STALLED, OUT_OF_MEMORY], "Permanent", reasons.OUT_OF_MEMORY),
        ([BOOM, SILENT], "Fault", reasons.FAULT),
        ([], "Fault", "BackoffLimitExceeded"),
    ],
)
def test_the_cause_wins_over_its_symptoms_on_other_ranks(pods: list[Any], kind: str, reason: str) -> None:
    end = outcome.failure(job("j", failure="BackoffLimitExceeded"), pods)
    assert (end.kind, end.reason) == (kind, reason)


@given(
    st.text(max_size=300)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    ).map(json.dumps)
)
def test_no_termination_message_whatever_breaks_the_planner(text: str) -> None:  # fmt: skip
    message = outcome.parse(text)
    assert len(message.message) <= 1500
    assert message.retry_after <= outcome.LONGEST_WAIT
    flatten(message.numbers or {})


def test_headline_numbers_are_flattened_and_bounded() -> None:
    flat = flatten(
        {
            "rejectedByReason": {"WrongAnswer": 3},
            "loss": 0.123456789,
            "list": [1],
            "many": dict.fromkeys(map(str, range(99)), 1),
        }
    )
    assert flat["rejectedByReason.WrongAnswer"] == "3"
    assert flat["loss"] == "0.123457"
    assert "list" not in flat
    assert len(flat) <= 40
