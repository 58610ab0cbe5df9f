"""Random histories: spec edits, pods' ends, crashes, errors, late and lost watch events, in any order.

However a history went, once nothing goes wrong any more the run comes to where an undisturbed run of the same spec
comes to: the same status but for times, attempts and costs, the same objects, one Job an attempt, and no cost lost.
"""

from __future__ import annotations

import copy
import functools
import json
from collections import Counter
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from distillrun.cluster.resources import CHILDREN, RUN
from distillrun.plan.names import LABEL_STAGE
from tests.cluster.faults.kubelet import End, failure, success
from tests.cluster.faults.world import normal, without_hash
from tests.unit.builders import spec as default_spec
from tests.unit.conditions import check_conditions
from tests.unit.histories.api import Json
from tests.unit.histories.cluster import JOB_NAME, KEY, ModelCluster
from tests.unit.plan.test_companions import CODE, GRADED
from tests.unit.plan.test_served_models import served

KINDS = (RUN.kind, *(resource.kind for resource in CHILDREN))
ROUNDING = 0.1
"""GPU-seconds that one settled attempt may lose by rounding."""


def with_value(spec: Json, path: str, value: Any) -> Json:
    """A copy of a spec with one field changed."""
    new = copy.deepcopy(spec)
    node: Any = new
    *parents, last = path.split(".")
    for part in parents:
        node = node[int(part)] if part.isdigit() else node.setdefault(part, {})
    node[last] = value
    return new


STAGE_EDITS = ("curate.sources.0.take", "train.maxSteps", "evaluate.benchmarks.0.samples")
"""Fields that a stage is computed from. Each edit gives a value that was not there before: see docs/faults.md."""
EDITS: dict[str, tuple[Any, ...]] = {
    "gates.0.atLeast": ("0.95", "0.5", "0.99"),
    "serve.replicas": (1, 2),
    "budget.gpuHourPrice": ("3.60", "2"),
    "maxRetries": (2, 3),
}


class Histories(RuleBasedStateMachine):
    """Everything that may happen to one run."""

    costs = False
    """Whether the run's cost is checked, too."""
    spec: ClassVar[Json] = {}
    """What of the spec differs from the small one."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = ModelCluster()
        self.cluster.create(**self.spec)
        self.highest = 0.0
        self.edits = 0

    def teardown(self) -> None:
        try:
            self.cluster.settle()
            check(self.cluster)
            if self.costs:
                check_cost(self.cluster)
        finally:
            self.cluster.close()

    # -- time and the operators --------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 5, 40, 400]))
    def time_passes(self, seconds: int) -> None:
        self.cluster.pass_time(seconds)

    @rule()
    def a_pass(self) -> None:
        self.cluster.work()

    @rule(operator=st.integers(0, 1), kind=st.sampled_from(KINDS), count=st.integers(1, 9))
    def events_are_read(self, operator: int, kind: str, count: int) -> None:
        self.cluster.operators[operator].read(kind, count)

    @rule()
    def the_leader_reads_everything_and_makes_a_pass(self) -> None:
        self.cluster.leader.read_all()
        self.cluster.work()

    @rule()
    def the_controllers_work(self) -> None:
        self.cluster.control()

    # -- pods ------------------------------------------------------------------------------------

    def waiting(self) -> list[Json]:
        return [pod for pod in self.cluster.active() if pod["status"]["phase"] == "Pending"]

    def running(self) -> list[Json]:
        return [pod for pod in self.cluster.active() if pod["status"]["phase"] == "Running"]

    @precondition(lambda self: self.waiting())
    @rule(which=st.integers(0, 7))
    def a_pod_starts(self, which: int) -> None:
        waiting = self.waiting()
        self.cluster.start(waiting[which % len(waiting)])

    @precondition(lambda self: self.running())
    @rule(which=st.integers(0, 7), how=st.sampled_from(["well", "well", "disrupted", "later", "fault"]))
    def a_pod_ends(self, which: int, how: str) -> None:
        running = self.running()
        pod = running[which % len(running)]
        stage = pod["metadata"]["labels"][LABEL_STAGE]
        if how == "fault" and not self.cluster.may_fail(stage):
            how = "well"
        ends = {
            "well": success(stage),
            "disrupted": End(143, {}, disrupted=True),
            "later": failure(75, retryAfterSeconds=7),
            "fault": failure(70),
        }
        self.cluster.end(pod, ends[how])

    @precondition(lambda self: self.cluster.active())
    @rule(which=st.integers(0, 7))
    def a_job_is_deleted(self, which: int) -> None:
        pods = self.cluster.active()
        pod = pods[which % len(pods)]
        stage = pod["metadata"]["labels"][LABEL_STAGE]
        if self.cluster.state(stage) == "Running" and self.cluster.may_fail(stage):
            self.cluster.delete_job_of(pod)

    # -- faults ----------------------------------------------------------------------------------

    @rule(
        troubles=st.lists(
            st.sampled_from(["", "refuse", "conflict", "lose", "crash-before", "crash-after"]), min_size=1, max_size=4
        )
    )
    def writes_go_wrong(self, troubles: list[str]) -> None:
        self.cluster.leader.client.troubles.extend(troubles)

    @rule(kind=st.sampled_from(KINDS), count=st.integers(1, 5))
    def events_are_lost_and_a_relist_follows(self, kind: str, count: int) -> None:
        leader = self.cluster.leader
        for _ in range(min(count, len(leader.unread[kind]))):
            leader.unread[kind].popleft()
        self.cluster.do(leader.relist.catch_up())

    @rule()
    def the_other_operator_takes_over(self) -> None:
        self.cluster.take_over()

    # -- the user --------------------------------------------------------------------------------

    @rule(path=st.sampled_from(sorted(EDITS)), which=st.integers(0, 2))
    def the_spec_is_edited(self, path: str, which: int) -> None:
        values = EDITS[path]
        self.cluster.edit(with_value(self.cluster.run["spec"], path, values[which % len(values)]))

    @rule(path=st.sampled_from(STAGE_EDITS))
    def the_spec_of_a_stage_is_edited(self, path: str) -> None:
        if self.cluster.state(path.split(".")[0]) == "Pending":  # else the API server refuses it
            self.edits += 1
            self.cluster.edit(with_value(self.cluster.run["spec"], path, 100 + self.edits))

    # -- what always holds -------------------------------------------------------------------------

    @invariant()
    def whatever_happens(self) -> None:
        """No attempt has two Jobs, no two Jobs train at once, what was billed stays billed, kstatus can judge."""
        check_conditions(self.cluster.status)
        server = self.cluster.server
        assert not [ident for ident, count in server.created.items() if ident[0] == "Job" and count > 1]
        assert len({pod["metadata"]["labels"][JOB_NAME] for pod in self.cluster.pods() if _trains(pod)}) < 2
        shown = float(self.cluster.status.get("cost", {}).get("gpuSeconds", 0.0))
        assert shown >= self.highest - ROUNDING, f"{self.highest} GPU-seconds were billed, now {shown}"
        self.highest = max(shown, self.highest)


def _trains(pod: Json) -> bool:
    return bool(pod["metadata"]["labels"][LABEL_STAGE] == "train" and pod["status"]["phase"] == "Running")


def check(cluster: ModelCluster) -> None:
    """The end is that of an undisturbed run of the same spec."""
    expected_status, expected_objects = undisturbed(json.dumps(cluster.run["spec"], sort_keys=True))
    assert normal(cluster.status, KEY[0]) == expected_status
    assert objects(cluster) == Counter(expected_objects)
    assert cluster.status["observedGeneration"] == cluster.run["metadata"]["generation"]


def check_cost(cluster: ModelCluster) -> None:
    """What pods used is billed."""
    billed = float(cluster.status["cost"]["gpuSeconds"])
    attempts = sum(each.get("attempt", 0) for each in cluster.status["stages"])
    used = cluster.gpu_seconds()
    assert billed >= used - ROUNDING * attempts, f"billed {billed}, used {used}"


@functools.cache
def undisturbed(spec: str) -> tuple[Any, dict[str, int]]:
    """Status and objects of a run to which nothing happens."""
    cluster = ModelCluster()
    try:
        cluster.create(**json.loads(spec))
        cluster.settle()
        return normal(cluster.status, KEY[0]), dict(objects(cluster))
    finally:
        cluster.close()


def objects(cluster: ModelCluster) -> Counter[str]:
    """The run's children less pods, by kind and name without hashes and attempts' numbers."""
    return Counter(
        f"{kind} {without_hash(name)}"
        for kind, _, name in cluster.server.objects
        if kind not in ("DistillRun", "Pod", "Event")
    )


class HistoriesWithCompanions(Histories):
    """A run that has code judged and serves its teacher itself."""

    spec: ClassVar[Json] = {"curate": CODE, "evaluate": GRADED, **served()}


class HistoriesWithCosts(Histories):
    """The same, and no cost is lost."""

    costs = True


def histories(machine: type[Histories], examples: int, steps: int) -> None:
    """Run so many random histories of so many steps."""
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(machine, settings=chosen)  # type: ignore[no-untyped-call]


def test_whatever_happens_to_a_run_it_ends_as_an_undisturbed_one() -> None:
    histories(Histories, examples=30, steps=60)


def test_whatever_happens_to_a_run_with_servers_beside_its_stages_none_is_left() -> None:
    histories(HistoriesWithCompanions, examples=8, steps=60)
    _, left = undisturbed(json.dumps(default_spec(**HistoriesWithCompanions.spec), sort_keys=True))
    assert [name for name in left if name.startswith("Deployment")] == ["Deployment s1-serve"]


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_whatever_happens_to_a_run_it_ends_as_an_undisturbed_one_in_a_thousand_histories() -> None:
    histories(Histories, examples=1000, steps=100)


@pytest.mark.full
def test_whatever_happens_to_a_run_no_cost_is_lost() -> None:
    histories(HistoriesWithCosts, examples=200, steps=60)
