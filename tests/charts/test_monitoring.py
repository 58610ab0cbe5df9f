"""Alerts and dashboard: PromQL over names and labels that exist; each alert fires when it should and only then."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.chart import dashboard
from tests.charts.conftest import CHART, Render, build, one
from tests.charts.tools import Promql
from tests.metrics import DOCS, documented

Json = dict[str, Any]
METRICS = documented()
"""By name, with labels. tests/unit/cluster/test_metrics.py compares the page with what the code exports, and
tests/cluster/operator_io/test_metrics.py with what a running operator does."""
METRICS |= {"process_resident_memory_bytes": set(), "process_cpu_seconds_total": set()}
TARGET = {"job", "instance", "namespace", "pod", "service"}
"""Labels that Prometheus adds to what it scrapes."""
ALERTS: list[Json] = [
    rule for group in yaml.safe_load((CHART / "files/alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
PANELS = [each for each in json.loads((CHART / "files/dashboard.json").read_text())["panels"] if each["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
BY_NAME = {alert["alert"]: alert for alert in ALERTS}


@pytest.fixture(scope="session")
def promql() -> Promql:
    return Promql(build("promql"))


def spoken(expression: str) -> str:
    """A dashboard's query with its variables filled in."""
    return expression.replace("$namespace", ".*").replace("$__rate_interval", "5m")


def wrong(promql: Promql, expressions: list[str]) -> list[str]:
    """What does not parse, or names a metric or a label that nobody exports."""
    found = []
    for expression, told in zip(expressions, promql.ask(expressions=expressions)["expressions"], strict=True):
        if "error" in told:
            found.append(f"{expression}: {told['error']}")
        known = {"le", *TARGET}
        for selector in told["selectors"]:
            name = re.sub(r"_(bucket|count|sum)$", "", selector["metric"])
            name = name if name in METRICS else selector["metric"]
            if name not in METRICS:
                found.append(f"{expression}: nobody exports {name}")
                continue
            known |= METRICS[name]
            unknown = {each["label"] for each in selector["matchers"]} - METRICS[name] - TARGET
            found += [f"{expression}: {name} has no label {label}" for label in unknown]
        found += [f"{expression}: no label {label}" for label in set(told["labels"]) - known]
    return found


def test_every_expression_of_the_alerts_is_over_what_exists(promql: Promql) -> None:
    assert wrong(promql, [alert["expr"] for alert in ALERTS]) == []


def test_every_query_of_the_dashboard_is_over_what_exists(promql: Promql) -> None:
    assert len(QUERIES) > 30
    assert wrong(promql, [spoken(expression) for _, expression in QUERIES]) == []


def test_a_query_over_what_does_not_exist_is_found(promql: Promql) -> None:
    bad = ['distillrun_runs{colour="x"}', "distillrun_invented", "sum by (reason) (distillrun_runs)", "sum("]
    assert len(wrong(promql, bad)) == len(bad)


def test_every_metric_of_ours_is_on_the_dashboard_or_in_an_alert() -> None:
    text = " ".join([*(alert["expr"] for alert in ALERTS), *(expression for _, expression in QUERIES)])
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"distillrun_\w+", text)}
    shown |= set(re.findall(r"distillrun_\w+", text))
    # Told in the docs for whoever looks closer.
    assert {name for name in METRICS if name.startswith("distillrun")} - shown == {
        "distillrun_stages",
        "distillrun_runs_gpu_seconds",
        "distillrun_runs_serving_gpu_seconds",
        "distillrun_run_checkpoint_step",
        "distillrun_watch_events_total",
        "distillrun_watch_last_event_timestamp_seconds",
    }


def test_replicas_are_not_added_up(promql: Promql) -> None:
    gauges = re.compile(
        r"sum[^()]*\([^()]*\) \((distillrun_(?:runs|stages|gpus|cache)\w*)(?!\w*(?:_total|_bucket|_count))"
    )
    for _, expression in [*QUERIES, *((name, alert["expr"]) for name, alert in BY_NAME.items())]:
        found = [name for name in gauges.findall(expression) if not name.endswith("_total")]
        assert not found, expression


RUN = 'namespace="team",run="s1",stage="train"'
TRAINING = f'distillrun_run_progress_done{{{RUN},instance="a"}}'
LEADS = 'distillrun_leader{job="o",namespace="d",instance="a"} 1x200'
STANDBY = 'distillrun_leader{job="o",namespace="d",instance="b"} 0x200'
PASSES = 'distillrun_reconcile_seconds_count{job="o",namespace="d",instance="a"}'
CASES: dict[str, tuple[str, str]] = {
    "DistillRunOperatorDown": ("up 0x99", 'distillrun_build_info{version="1"} 1x99'),
    "DistillRunNoLeader": (f"{STANDBY}", f"{LEADS}\n{STANDBY}"),
    "DistillRunWatchSilent": (
        'distillrun_watch_behind_seconds{kind="Job",job="o",namespace="d",instance="a"} 0+60x99',
        'distillrun_watch_behind_seconds{kind="Job",job="o",namespace="d",instance="a"} 2x99\n'
        'distillrun_watch_silent_objects{job="o",namespace="d",instance="a"} 0x99',
    ),
    "DistillRunQueueStuck": (
        f'{LEADS}\ndistillrun_queue_depth{{instance="a"}} 3x99\n{PASSES} 5x99',
        # A standby's queue is full and nobody works on it.
        f'{STANDBY}\ndistillrun_queue_depth{{instance="b"}} 3x99\n'
        'distillrun_reconcile_seconds_count{instance="b"} 0x99\n'
        f'{LEADS}\ndistillrun_queue_depth{{instance="a"}} 3x99\n{PASSES} 0+60x99',
    ),
    "DistillRunPassesFail": (
        f'{PASSES} 0+60x99\ndistillrun_reconcile_failures_total{{job="o",namespace="d"}} 0+12x99',
        f'{PASSES} 0+60x99\ndistillrun_reconcile_failures_total{{job="o",namespace="d"}} 0+1x99',
    ),
    "DistillRunApiErrors": (
        'distillrun_api_requests_total{job="o",namespace="d",verb="get",kind="Job",code="200"} 0+60x99\n'
        'distillrun_api_requests_total{job="o",namespace="d",verb="get",kind="Job",code="503"} 0+20x99',
        'distillrun_api_requests_total{job="o",namespace="d",verb="get",kind="Job",code="200"} 0+60x99\n'
        'distillrun_api_requests_total{job="o",namespace="d",verb="post",kind="Job",code="409"} 0+20x99',
    ),
    "DistillRunFailed": (
        # The first failure of a process: the series was not there before.
        'distillrun_runs_failed_total{namespace="team",reason="DiskFull",instance="a"} _x90 1x9',
        # One that is long past, and a restart that begins anew at nothing.
        'distillrun_runs_failed_total{namespace="team",reason="DiskFull",instance="a"} 0 1x98',
    ),
    "DistillRunStageWaits": (
        'distillrun_stages_waiting{namespace="team",stage="train",reason="Unschedulable"} 1x99',
        'distillrun_stages_waiting{namespace="team",stage="train",reason="Queued"} 1x99',
    ),
    "DistillRunNoProgress": (
        f"{TRAINING} 0+1x20 21x79",
        # Slow, but it moves; and one that began half an hour ago.
        f'{TRAINING} 0x29 1x40 2x29\ndistillrun_run_progress_done{{namespace="team",run="s2",stage="train"}} _x70 5x29',
    ),
    "DistillRunNoNumbers": (
        f"distillrun_run_scrape_timestamp_seconds{{{RUN}}} 0x99",
        f"distillrun_run_scrape_timestamp_seconds{{{RUN}}} 0+60x99",
    ),
    "DistillRunBudgetNearLimit": (
        'distillrun_run_budget_used_ratio{namespace="team",run="s1"} 0+0.01x99',
        'distillrun_run_budget_used_ratio{namespace="team",run="s1"} 0.5x99',
    ),
    "DistillRunServingNearMaxCost": (
        'distillrun_run_max_cost_used_ratio{namespace="team",run="s1",instance="a"} 0+0.01x99',
        'distillrun_run_max_cost_used_ratio{namespace="team",run="s1",instance="a"} 0.79x99',
    ),
    "DistillRunManyPreemptions": (
        'distillrun_preemptions_total{namespace="team",stage="train"} 0+0.1x99',
        'distillrun_preemptions_total{namespace="team",stage="train"} 0+0.02x99',
    ),
}


@pytest.mark.parametrize("name", BY_NAME)
def test_an_alert_fires_when_it_should_and_only_then(promql: Promql, name: str) -> None:
    bad, good = CASES[name]
    assert promql.fires(BY_NAME[name]["expr"], bad, 95)
    assert promql.fires(BY_NAME[name]["expr"], good, 95) == []


def test_a_run_that_failed_before_the_operator_restarted_is_told_once(promql: Promql) -> None:
    counter = 'distillrun_runs_failed_total{namespace="team",reason="Fault",instance="a"} 0 1x30 _x5 0 0 1x30'
    expression = BY_NAME["DistillRunFailed"]["expr"]
    assert promql.fires(expression, counter, 10)
    assert promql.fires(expression, counter, 30) == []
    assert promql.fires(expression, counter, 45)


@pytest.mark.parametrize("name", BY_NAME)
def test_an_alert_says_what_it_means_and_links_to_what_to_do(name: str) -> None:
    alert = BY_NAME[name]
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["runbook_url"] == f"docs/monitoring.md#{name.lower()}"
    assert DOCS.count(f"\n### {name}\n") == 1
    labels = set(re.findall(r"\$labels\.(\w+)", json.dumps(alert["annotations"])))
    for label in labels:
        assert label in alert["expr"], f"{name} speaks of a label that its expression drops: {label}"


def test_the_rule_and_the_dashboard_are_rendered_as_asked(render: Render, default: list[Json]) -> None:
    assert not [each for each in default if each["kind"] in ("PrometheusRule", "ConfigMap")]
    asked = {
        "prometheusRule": {"enabled": True, "labels": {"release": "p"}, "runbookUrl": "https://wiki.example/m"},
        "dashboard": {"enabled": True, "labels": {"team": "ml"}, "annotations": {"grafana_folder": "ML"}},
    }
    objects = render({"metrics": asked})
    rule, board = one(objects, "PrometheusRule"), one(objects, "ConfigMap")
    assert rule["metadata"]["labels"]["release"] == "p"
    rendered = [each for group in rule["spec"]["groups"] for each in group["rules"]]
    assert [each["expr"] for each in rendered] == [each["expr"] for each in ALERTS]
    assert {each["annotations"]["runbook_url"].partition("#")[0] for each in rendered} == {"https://wiki.example/m"}
    assert "{{ $labels.namespace }}" in rendered[-1]["annotations"]["summary"]
    assert board["metadata"]["labels"].items() >= {"grafana_dashboard": "1", "team": "ml"}.items()
    assert board["metadata"]["annotations"] == {"grafana_folder": "ML"}
    assert json.loads(board["data"]["distillrun.json"]) == dashboard.dashboard()


def test_the_dashboards_file_is_the_one_that_is_written(tmp_path: Path) -> None:
    assert dashboard.main(["--check"]) == 0


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads((CHART / "files/dashboard.json").read_text())["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
