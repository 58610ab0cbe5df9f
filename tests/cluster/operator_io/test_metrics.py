"""What a running operator exports is what docs/monitoring.md says, and its log says of each line what it is about."""

from __future__ import annotations

import re

import pytest

from tests.cluster.operator_io.conftest import Starter
from tests.cluster.pretend_kubelet import PretendKubelet
from tests.cluster.test_api_rules import a_run
from tests.kube import Kube, stage, wait_for
from tests.metrics import documented, sampled, typed

pytestmark = pytest.mark.controlplane


def test_an_operator_exports_what_the_docs_say_and_logs_what_each_line_is_about(
    api_server: Kube, namespace: str, start_operator: Starter
) -> None:
    operator = start_operator("--relist-seconds", "1", "--relist-grace", "1")
    kubelet = PretendKubelet(api_server, namespace)
    wait_for("the operator to lead", lambda: operator.leads)
    api_server.apply(a_run(namespace))
    kubelet.start("curate")
    kubelet.end("curate", code=70, outcome="Failed", reason="DiskFull", message="full")
    kubelet.start("curate", attempt=2)
    wait_for(
        "the second attempt in the status",
        lambda: (
            stage(api_server.status("s1", namespace), "curate").get("state") == "Running"
            and stage(api_server.status("s1", namespace), "curate")["attempt"] == 2
        ),
    )
    counted = 'distillrun_attempt_failures_total{reason="DiskFull",stage="curate"}'
    wait_for("the failure to be counted", lambda: operator.metric(counted) == 1)
    wait_for("the watch to tell our writes", lambda: operator.metric('distillrun_watch_lag_seconds_count{kind="Job"}'))
    text = operator.http("/metrics")[1]
    told = documented()
    assert typed(text) == told.keys()
    assert {name: told[name] for name in sampled(text)} == sampled(text)
    assert f'distillrun_runs{{namespace="{namespace}",phase="Curating"}} 1.0' in text

    lines = [line for line in operator.lines() if line.get("run") == "s1"]
    # The first objects are made before the run has a stage.
    first = next(number for number, line in enumerate(lines) if "The run is" in line["message"])
    # What the watch had missed is said of an object, which need not belong to a stage.
    about = ({"namespace", "stage", "attempt"}, {"namespace", "kind", "object"})
    assert [line for line in lines[first:] if not any(keys <= line.keys() for keys in about)] == []
    said = [f"{line['message']} [{line['stage']} {line['attempt']}]" for line in lines if "attempt" in line]
    job = re.compile(r"s1-curate-\w{8}")
    rest = iter(job.sub("JOB", line) for line in said)
    for words in (
        "Created Job JOB-1. [curate 1]",
        "curate attempt 1: Running [curate 1]",
        "The run is Curating: curate attempt 1 [curate 1]",
        "curate attempt 2: Pending (DiskFull: attempt 1: full) [curate 2]",
        "Deleted Job JOB-1. [curate 1]",
        "Created Job JOB-2. [curate 2]",
        "curate attempt 2: Running [curate 2]",
    ):
        assert words in rest, f"no line {words!r} in its place among {said}"
