"""Whatever is in the cluster, one pass over it ends: the planner answers and the builder builds, or refuses with words.

Specs and statuses by the CRD's schema, valid and nearly valid; pods and Jobs with any JSON in any field.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from distillrun.build.objects import build
from distillrun.cluster import project
from distillrun.plan.model import Decision, Observed
from distillrun.plan.names import LABEL_RUN_UID
from distillrun.plan.planner import plan
from tests.unit import builders
from tests.unit.hostile import anything, specs, statuses, text

STATUS_LIMIT = 16 * 1024
SAMPLE = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
ALL = settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))

words = text | st.sampled_from(["train", "curate", "serve", "1", "-1", "99999999999999999999", "NaN"])
times = text | st.sampled_from(["2026-01-31T12:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "now"])
conditions = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(
                ["PodScheduled", "Ready", "DisruptionTarget", "Failed", "Complete", "FailureTarget"]
            ),
            "status": st.sampled_from(["True", "False", "Unknown"]),
        },
        optional={"lastTransitionTime": times, "reason": text, "message": text},
    ),
    max_size=3,
)
messages = st.one_of(
    text,
    anything.map(json.dumps),
    st.fixed_dictionaries(
        {"outcome": st.sampled_from(["Succeeded", "Failed", "Absent", ""]) | anything},
        optional=dict.fromkeys(("reason", "message", "retryAfterSeconds", "artifact", "numbers"), anything),
    ).map(json.dumps),
)
ends = st.fixed_dictionaries(
    {"exitCode": st.sampled_from([0, 1, 64, 70, 75, 76, 137, 143, 255, -1])},
    optional={"reason": text, "message": messages, "startedAt": times, "finishedAt": times},
)
states = st.one_of(
    st.builds(lambda end: {"terminated": end}, ends),
    st.builds(lambda at: {"running": {"startedAt": at}}, times),
    st.builds(lambda reason, message: {"waiting": {"reason": reason, "message": message}}, text, text),
    st.just({}),
)


@st.composite
def strangers(draw: st.DrawFn, kind: str, names: list[str]) -> dict[str, Any]:
    """A pod or Job with our labels, and with what we would not have written."""
    owner = {"kind": draw(st.sampled_from(["Job", "ReplicaSet", "DistillRun"])), "name": draw(st.sampled_from(names))}
    controlled = {**owner, "uid": "run-uid", "controller": draw(st.booleans())}
    labels = {"distillrun.dev/stage": draw(words), "distillrun.dev/attempt": draw(words), LABEL_RUN_UID: "run-uid"}
    container = {"name": "stage", "state": draw(states)}
    return {
        "kind": kind,
        "metadata": {
            "name": draw(st.sampled_from(names)),
            "uid": draw(text),
            "namespace": "team",
            "labels": labels,
            "annotations": draw(st.dictionaries(st.sampled_from([project.INDEX, "distillrun.dev/fingerprint"]), words)),
            "creationTimestamp": draw(times),
            "ownerReferences": [controlled],
        },
        "spec": {"containers": [{"resources": {"limits": {"nvidia.com/gpu": draw(words)}}}]},
        "status": {"phase": draw(text), "conditions": draw(conditions), "containerStatuses": [container]},
    }


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Any, Any, Observed]:
    """A spec, a status and what the cache holds."""
    chosen, status = draw(specs()), draw(statuses)
    assume(_teacher_is_known(chosen))
    named = [stage.get("jobName") for stage in status.get("stages", ()) if isinstance(stage, dict)]
    names = [name for name in named if name] or ["s1-curate-1"]
    jobs = [project.job(body) for body in draw(st.lists(strangers("Job", names), max_size=2))]
    pods = [project.pod(body) for body in draw(st.lists(strangers("Pod", names), max_size=3))]
    return chosen, status, builders.observed(*jobs, *pods)


def _teacher_is_known(chosen: Any) -> bool:
    """Left out: a spec whose teacher names no model or two. A rule of the CRD refuses it, the planner has no words."""
    models = chosen.get("models") if isinstance(chosen, dict) else None
    named = [model.get("name") for model in models if isinstance(model, dict)] if isinstance(models, list) else []
    return named.count(chosen.get("teacher")) == 1


def one_pass(world: tuple[Any, Any, Observed]) -> Decision:
    """Plan and build everything that is wanted."""
    chosen, status, seen = world
    run = builders.run(spec=chosen, status=status)
    decision = plan(run, seen, builders.T0 + timedelta(days=1), builders.SETTINGS)
    for want in decision.ensure:
        json.dumps(build(want, run, builders.SETTINGS))
    if decision.status is not None:
        json.dumps(decision.status)
    return decision


@SAMPLE
@given(worlds())
def test_one_pass_over_whatever_there_is_ends(world: tuple[Any, Any, Observed]) -> None:
    decision = one_pass(world)
    assert decision.requeue_after is None or decision.requeue_after >= 0


@pytest.mark.full
@pytest.mark.timeout(3600)
@ALL
@given(worlds())
def test_ten_thousand_passes_over_whatever_there_is_end(world: tuple[Any, Any, Observed]) -> None:
    decision = one_pass(world)
    assert decision.requeue_after is None or decision.requeue_after >= 0


@SAMPLE
@given(st.sampled_from([project.run, project.pod, project.job]), st.dictionaries(text, anything, max_size=3))
def test_a_projection_takes_metadata_spec_and_status_of_any_form(projection: Any, part: Any) -> None:
    projection({"metadata": {"labels": {}, "annotations": {}}, "spec": {}, "status": {}, **part})
