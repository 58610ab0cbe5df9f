"""Operator processes on a real API server, under the chart's role: one leads, one takes over, none writes too much."""

from __future__ import annotations

import signal
import time
from typing import Any
from urllib.parse import unquote

import pytest

from distillrun.cluster.resources import CHILDREN, RUN
from distillrun.plan.model import STAGES
from tests.cluster.operator_io import pods
from tests.cluster.operator_io.conftest import Starter
from tests.cluster.operator_io.processes import LEASE, Audit, OperatorProcess, role_rules, said
from tests.kube import Kube, condition, stage, wait_for
from tests.unit.builders import spec

pytestmark = pytest.mark.controlplane
HIGHER = {"benchmark": "additions", "atLeast": "0.99"}
RARE = {("get", "distillruns"), ("get", "pods"), ("get", "jobs"), ("get", "configmaps")}
"""Reads of one object that no test brings about at will: after a stale write, a lost answer, or what a watch missed."""


def a_run(namespace: str, name: str = "s1", **changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "distillrun.dev/v1alpha1",
        "kind": "DistillRun",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec(**changes),
    }


def wait_for_jobs(kube: Kube, namespace: str, count: int = 1, run: str = "s1") -> list[dict[str, Any]]:
    """The Jobs of a run, once there are so many."""

    def found() -> list[dict[str, Any]]:
        jobs = kube.list("jobs", namespace, f"distillrun.dev/run={run}")
        return jobs if len(jobs) >= count else []

    jobs: list[dict[str, Any]] = wait_for(f"{count} Jobs of {run}", found)
    return jobs


def quiet(audit: Audit, seconds: float = 4.0) -> None:
    """Wait until the operator has written nothing for a while."""

    def unchanged() -> bool:
        before = len(audit.writes())
        time.sleep(seconds)
        return len(audit.writes()) == before

    wait_for("the operator to have nothing left to write", unchanged)


def holder(kube: Kube, namespace: str) -> str:
    """Who holds the lease."""
    lease = kube.get("lease", LEASE, namespace)
    return str(lease["spec"].get("holderIdentity", "")) if lease else ""


def test_a_new_run_gets_its_job_and_its_status_in_one_pass(
    api_server: Kube, namespace: str, start_operator: Starter, audit: Audit
) -> None:
    operator = start_operator()
    wait_for("the operator to lead", lambda: operator.leads)
    audit.mark()
    api_server.apply(a_run(namespace))
    wait_for("the first status", lambda: api_server.status("s1", namespace).get("phase"))
    writes = [said(request) for request in audit.writes() if request["objectRef"]["resource"] != "events"]
    job = stage(api_server.status("s1", namespace), STAGES[0])["jobName"]
    assert writes[:4] == [
        f"create networkpolicies s1-{STAGES[0]}: 201",
        f"create configmaps {job}: 201",
        f"create jobs {job}: 201",
        "patch distillruns/status s1: 200",
    ]


def test_an_idle_operator_writes_nothing(
    api_server: Kube, namespace: str, start_operator: Starter, audit: Audit
) -> None:
    operator = start_operator()
    wait_for("the operator to lead", lambda: operator.leads)
    api_server.apply(a_run(namespace))
    for pod in pods.wait_for_pods(api_server, namespace, "curate"):
        pods.start(api_server, namespace, pod)
    wait_for("a running stage", lambda: stage(api_server.status("s1", namespace), "curate")["state"] == "Running")
    quiet(audit)
    audit.mark()
    time.sleep(20)
    assert [said(request) for request in audit.writes()] == []


def test_children_are_listed_and_watched_by_label_only_and_in_the_watched_namespace_only(
    api_server: Kube, namespace: str, start_operator: Starter, audit: Audit
) -> None:
    operator = start_operator("--relist-seconds", "1")
    wait_for("the operator to lead", lambda: operator.leads)
    api_server.must("create", "configmap", "foreign", "-n", namespace)
    api_server.apply(a_run(namespace))
    wait_for_jobs(api_server, namespace)
    collections = [request for request in audit.requests() if request["verb"] in ("list", "watch")]
    kinds = {request["objectRef"]["resource"] for request in collections}
    assert kinds == {RUN.plural, *(child.plural for child in CHILDREN)}
    for request in collections:
        assert request["objectRef"].get("namespace") == namespace, said(request)
        labelled = "labelSelector=distillrun.dev/run" in unquote(request["requestURI"])
        assert labelled or request["objectRef"]["resource"] == "distillruns", request["requestURI"]
    assert operator.metric('distillrun_cache_objects{kind="ConfigMap"}') == 1


def test_when_the_leader_is_killed_the_other_acts(
    api_server: Kube, namespace: str, start_operator: Starter, audit: Audit
) -> None:
    first, second = leader_and_standby(start_operator)
    api_server.apply(a_run(namespace))
    wait_for_jobs(api_server, namespace)
    first.signal(signal.SIGKILL)
    killed = time.monotonic()
    api_server.apply(a_run(namespace, "s2"))
    wait_for_jobs(api_server, namespace, run="s2")
    print(f"the standby acted {time.monotonic() - killed:.1f} s after the leader was killed")
    assert all(second.identity in request["userAgent"] for request in audit.writes() if "s2" in said(request))
    assert holder(api_server, namespace) == second.identity


def test_a_leader_that_is_told_to_stop_hands_over_at_once(
    api_server: Kube, namespace: str, start_operator: Starter
) -> None:
    first, second = leader_and_standby(start_operator)
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    assert first.logged("Released the lease")
    wait_for("the successor", lambda: second.leads)
    lease = api_server.get("lease", LEASE, namespace)
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == second.identity


def test_a_leader_that_wakes_after_its_lease_writes_nothing_and_goes(
    api_server: Kube, namespace: str, start_operator: Starter, audit: Audit
) -> None:
    first, second = leader_and_standby(start_operator)
    first.signal(signal.SIGSTOP)
    wait_for("the standby to lead", lambda: second.leads)
    api_server.apply(a_run(namespace))  # waits in the sleeper's sockets, too
    wait_for_jobs(api_server, namespace)
    first.signal(signal.SIGCONT)
    assert first.wait() == 1
    assert first.logged("Leadership is lost")
    assert audit.writes(first.identity) == []
    assert audit.writes(second.identity) != []


def test_a_standby_keeps_its_cache_warm_and_writes_nothing(
    api_server: Kube, namespace: str, start_operator: Starter, audit: Audit
) -> None:
    _, second = leader_and_standby(start_operator)
    api_server.apply(a_run(namespace))
    wait_for_jobs(api_server, namespace)
    wait_for("the standby to know the Job", lambda: second.metric('distillrun_cache_objects{kind="Job"}') == 1)
    assert (second.http("/healthz")[0], second.http("/readyz")[0]) == (200, 200)
    assert not second.leads
    assert audit.writes(second.identity) == []


def test_a_run_whose_pods_are_refused_says_why_and_goes_on_when_they_no_longer_are(
    api_server: Kube, namespace: str, start_operator: Starter
) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": namespace}}
    api_server.apply({**quota, "spec": {"hard": {"pods": "0"}}})
    start_operator()
    api_server.apply(a_run(namespace))
    wait_for("the words", lambda: "exceeded quota: none" in str(api_server.status("s1", namespace)), 120)
    api_server.must("delete", "resourcequota", "none", "-n", namespace)
    for pod in pods.wait_for_pods(api_server, namespace, "curate"):
        pods.start(api_server, namespace, pod)
    wait_for("the stage to run", lambda: stage(api_server.status("s1", namespace), "curate")["state"] == "Running")
    assert "exceeded quota" not in str(api_server.status("s1", namespace))


def test_an_operator_that_is_killed_in_the_middle_is_continued_by_the_next(
    api_server: Kube, namespace: str, start_operator: Starter
) -> None:
    first = start_operator()
    api_server.apply(a_run(namespace))
    pods.wait_for_pods(api_server, namespace, "curate")
    first.signal(signal.SIGKILL)
    first.wait()
    pods.succeed(api_server, namespace, "curate", questions=4, accepted=4, rejected=0)
    start_operator()
    pods.wait_for_pods(api_server, namespace, "train", 2)
    status = api_server.status("s1", namespace)
    assert stage(status, "curate")["state"] == "Succeeded"
    assert stage(status, "curate")["attempt"] == 1
    assert len(api_server.list("jobs", namespace, "distillrun.dev/stage=curate")) <= 1


def test_an_operator_that_starts_before_the_definition_waits_for_it(
    api_server: Kube, namespace: str, start_operator: Starter
) -> None:
    crd = api_server.must("get", "crd", "distillruns.distillrun.dev", "-o", "json")
    api_server.must("delete", "crd", "distillruns.distillrun.dev", "--wait=true")
    try:
        operator = start_operator(wait=False)
        wait_for("its words", lambda: operator.logged("Waiting for the definition of distillruns.distillrun.dev"))
        assert operator.http("/readyz")[0] == 503
        assert operator.http("/healthz")[0] == 200
    finally:
        wait_for("the definition to be taken", lambda: restore(api_server, crd))
    wait_for("the operator to be ready", lambda: operator.http("/readyz")[0] == 200)


def restore(kube: Kube, crd: str) -> bool:
    import json

    body = json.loads(crd)
    body["metadata"] = {"name": body["metadata"]["name"]}
    body.pop("status", None)
    done = kube.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(body))
    wait = ("wait", "--for=condition=Established", "crd/distillruns.distillrun.dev", "--timeout=30s")
    return done.returncode == 0 and kube.kubectl(*wait).returncode == 0


def test_an_operator_without_permission_says_what_it_may_not_do_and_ends(
    api_server: Kube, namespace: str, start_operator: Starter
) -> None:
    api_server.must("delete", "rolebinding", "operator", "-n", namespace)
    operator = start_operator(wait=False)
    assert operator.wait() == 1
    assert "cannot list resource" in operator.log.read_text()


def test_a_run_in_good_and_bad_days_needs_all_of_the_charts_role_and_no_more(
    api_server: Kube, namespace: str, start_operator: Starter, audit: Audit
) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": namespace}}
    api_server.apply({**quota, "spec": {"hard": {"pods": "0"}}})
    start_operator("--relist-seconds", "1")
    template = {"size": "1Gi", "accessModes": ["ReadWriteMany"]}
    api_server.apply(a_run(namespace, storage={"claimTemplate": template}))
    wait_for("the refusal", lambda: "exceeded quota: none" in str(api_server.status("s1", namespace)), 120)
    api_server.must("delete", "resourcequota", "none", "-n", namespace)
    [first] = pods.wait_for_pods(api_server, namespace, "curate")
    pods.start(api_server, namespace, first)
    stale = ["distillrun.dev/applied=by-somebody", "--overwrite"]  # so that the next attempt brings it up to date
    api_server.must("annotate", "networkpolicy", "s1-curate", "-n", namespace, *stale)
    pods.end(api_server, namespace, first, code=70, outcome="Failed", reason="Fault", message="x")
    pods.succeed(api_server, namespace, "curate", attempt=2, questions=4, accepted=4, rejected=0)
    pods.succeed(api_server, namespace, "train", 2, steps=100, loss=0.01)
    pods.succeed(api_server, namespace, "evaluate", scores=[score("student", 0.98), score("base", 0.0)])
    [server] = pods.wait_for_pods(api_server, namespace, "serve")
    pods.start(api_server, namespace, server)
    wait_for("the run to be ready", lambda: ready(api_server, namespace))
    changes: dict[str, Any] = {"gates": [HIGHER], "ttlSecondsAfterFinished": 1}
    api_server.apply(a_run(namespace, storage={"claimTemplate": template}, **changes))
    wait_for("the server to go", lambda: api_server.get("deployment", "s1-serve", namespace) is None)
    wait_for("its Service to go", lambda: api_server.get("service", "s1-serve", namespace) is None)
    wait_for("the policies to go", lambda: not api_server.list("networkpolicies", namespace))
    refused = [said(request) for request in audit.requests() if request["responseStatus"]["code"] in (401, 403)]
    assert refused == []
    assert allowed() - used(audit) - RARE == set()


def score(model: str, value: float) -> dict[str, Any]:
    low, high = max(0.0, value - 0.02), min(1.0, value + 0.02)
    return {
        "benchmark": "additions",
        "model": model,
        "metric": "accuracy",
        "value": value,
        "low": low,
        "high": high,
        "n": 200,
        "correct": int(200 * value),
    }


def ready(kube: Kube, namespace: str) -> bool:
    return bool(condition(kube.status("s1", namespace), "Ready").get("status") == "True")


def allowed() -> set[tuple[str, str]]:
    return {(verb, kind) for rule in role_rules() for verb in rule["verbs"] for kind in rule["resources"]}


def used(audit: Audit) -> set[tuple[str, str]]:
    """(verb, resource) of every request; an apply that creates counts as both patch and create."""
    seen: set[tuple[str, str]] = set()
    for request in audit.requests():
        what = request.get("objectRef") or {}
        kind = "/".join(part for part in (what.get("resource"), what.get("subresource")) if part)
        seen.add((request["verb"], kind))
        if request["verb"] == "patch" and request["responseStatus"]["code"] == 201:
            seen.add(("create", kind))
    return seen


def leader_and_standby(start: Starter) -> tuple[OperatorProcess, OperatorProcess]:
    """Two operators, of which the first leads."""
    first = start()
    wait_for("the first to lead", lambda: first.leads)
    second = start()
    assert not second.leads
    return first, second
