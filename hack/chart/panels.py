"""What is on Grafana's dashboard: rows of panels and the PromQL of each. dashboard.py writes it for Grafana."""

from __future__ import annotations

from dataclasses import dataclass

NS = 'namespace=~"$namespace"'
RUN = "namespace, run, stage"


@dataclass(frozen=True)
class Panel:
    """One panel; `queries` are pairs of PromQL and legend."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    about: str = ""
    kind: str = "timeseries"
    stacked: bool = False


def replicas(labels: str, metric: str) -> str:
    """A gauge that every replica exports alike, once."""
    return f"max by ({labels}) ({metric}{{{NS}}})"


def quantile(share: float, metric: str, by: str = "", window: str = "$__rate_interval") -> str:
    """A quantile of a histogram, all processes together."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket[{window}])))"


def of_run(metric: str) -> tuple[tuple[str, str], ...]:
    """A number of running stages, one line each."""
    return ((replicas(RUN, f"distillrun_run_{metric}"), "{{namespace}}/{{run}}"),)


def leading(expression: str) -> str:
    """What only the leading replica's number says: the others' queues are filled and not worked on."""
    return f"{expression} and on (instance) distillrun_leader == 1"


OPERATOR = "and on (instance) distillrun_build_info"
ROWS: dict[str, tuple[Panel, ...]] = {
    "Runs": (
        Panel(
            "Runs by phase",
            ((f"sum by (phase) ({replicas('namespace, phase', 'distillrun_runs')})", "{{phase}}"),),
            stacked=True,
        ),
        Panel(
            "Stages that wait, by reason",
            (
                (
                    f"sum by (stage, reason) ({replicas('namespace, stage, reason', 'distillrun_stages_waiting')})",
                    "{{stage}}: {{reason}}",
                ),
            ),
            about="A reason's meaning is in docs/troubleshooting.md.",
        ),
        Panel(
            "Runs that failed in the last day",
            ((f"sum by (reason) (increase(distillrun_runs_failed_total{{{NS}}}[1d]))", "{{reason}}"),),
            kind="stat",
        ),
        Panel(
            "Stages ended an hour, by outcome",
            (
                (
                    "sum by (stage, outcome) (increase(distillrun_stage_duration_seconds_count[1h]))",
                    "{{stage}} {{outcome}}",
                ),
            ),
        ),
        Panel(
            "Duration of stages, median and 90 %",
            tuple(
                (quantile(share, "distillrun_stage_duration_seconds", "stage", "1d"), f"{{{{stage}}}} {words}")
                for share, words in ((0.5, "median"), (0.9, "90 %"))
            ),
            unit="s",
            about="Of the stages that ended within a day.",
        ),
        Panel(
            "Attempts that ended early",
            (
                (f"sum by (stage) (increase(distillrun_preemptions_total{{{NS}}}[1h]))", "{{stage}} preempted"),
                (f"sum by (stage) (increase(distillrun_releases_total{{{NS}}}[1h]))", "{{stage}} let go"),
                ("sum by (stage, reason) (increase(distillrun_attempt_failures_total[1h]))", "{{stage}} {{reason}}"),
            ),
            about="Attempts an hour: preempted, let go because pods could not start, failed by reason.",
        ),
    ),
    "Money": (
        Panel(
            "GPUs in use",
            ((replicas("namespace", "distillrun_gpus_assigned"), "{{namespace}}"),),
            stacked=True,
            about="GPUs of pods that have a node, from the pods themselves.",
        ),
        Panel(
            "Spent an hour",
            (
                (
                    f"3600 * sum by (namespace, currency) (rate(distillrun_cost_spent_total{{{NS}}}[1h]))",
                    "{{namespace}} {{currency}}",
                ),
            ),
        ),
        Panel(
            "Cost of the runs that exist",
            ((replicas("namespace, currency", "distillrun_runs_cost"), "{{namespace}} {{currency}}"),),
            kind="stat",
        ),
        Panel(
            "Cost of their model servers",
            ((replicas("namespace, currency", "distillrun_runs_serving_cost"), "{{namespace}} {{currency}}"),),
            kind="stat",
        ),
        Panel(
            "serve.maxCost used most",
            (
                (
                    f"topk(10, {replicas('namespace, run', 'distillrun_run_max_cost_used_ratio')})",
                    "{{namespace}}/{{run}}",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            "Budgets used most",
            ((f"topk(10, {replicas('namespace, run', 'distillrun_run_budget_used_ratio')})", "{{namespace}}/{{run}}"),),
            unit="percentunit",
        ),
        Panel(
            "Runs over their budget",
            ((replicas("namespace", "distillrun_runs_over_budget"), "{{namespace}}"),),
            kind="stat",
        ),
        Panel(
            "GPU-seconds used a second, by stage",
            ((f"sum by (stage) (rate(distillrun_gpu_seconds_used_total{{{NS}}}[30m]))", "{{stage}}"),),
            about="From statuses, which are written every 30 s or less often: the mean number of GPUs of half an hour.",
        ),
    ),
    "Running stages": (
        Panel(
            "Progress",
            (
                (
                    " / ".join(replicas(RUN, f"distillrun_run_progress_{which}") for which in ("done", "total")),
                    "{{namespace}}/{{run}} {{stage}}",
                ),
            ),
            unit="percentunit",
        ),
        Panel("Loss", of_run("loss")),
        Panel("Norm of the gradient", of_run("gradient_norm")),
        Panel("Tokens a second", of_run("tokens_per_second")),
        Panel("Seconds a step", of_run("step_seconds"), unit="s"),
        Panel(
            "Age of the last checkpoint",
            ((f"time() - {replicas(RUN, 'distillrun_run_checkpoint_timestamp_seconds')}", "{{namespace}}/{{run}}"),),
            unit="s",
            about="What a preemption now would cost in time.",
        ),
        Panel("Learning rate", of_run("learning_rate")),
        Panel("Traces accepted", of_run("traces_accepted")),
        Panel(
            "Age of the last numbers",
            (
                (
                    f"time() - {replicas(RUN, 'distillrun_run_scrape_timestamp_seconds')}",
                    "{{namespace}}/{{run}} {{stage}}",
                ),
            ),
            unit="s",
        ),
    ),
    "Operator": (
        Panel("Leader", (("distillrun_leader", "{{instance}}"),)),
        Panel(
            "Queue",
            (
                (leading("distillrun_queue_depth"), "waiting"),
                (leading("distillrun_queue_busy_workers"), "worked on"),
            ),
        ),
        Panel(
            "Passes",
            (
                (quantile(0.5, "distillrun_reconcile_seconds"), "median"),
                (quantile(0.99, "distillrun_reconcile_seconds"), "99 %"),
                (quantile(0.99, "distillrun_queue_wait_seconds"), "waited, 99 %"),
                ("max(distillrun_queue_longest_pass_seconds)", "oldest under way"),
            ),
            unit="s",
        ),
        Panel(
            "Requests to the API server",
            (("sum by (verb, code) (rate(distillrun_api_requests_total[$__rate_interval]))", "{{verb}} {{code}}"),),
            unit="reqps",
        ),
        Panel(
            "Passes that fail",
            (("sum(rate(distillrun_reconcile_failures_total[$__rate_interval]))", "failures"),),
            unit="ops",
        ),
        Panel(
            "Watch lag",
            (
                (quantile(0.99, "distillrun_watch_lag_seconds", "kind", "10m"), "{{kind}} 99 %"),
                ("max by (kind) (distillrun_watch_behind_seconds)", "{{kind}} not told yet"),
            ),
            unit="s",
        ),
        Panel(
            "What the watches missed",
            (
                ("sum by (kind, what) (increase(distillrun_relist_found_total[1h]))", "{{kind}} {{what}}"),
                ("max(distillrun_watch_silent_objects)", "of silent watches"),
            ),
        ),
        Panel("Objects remembered", (("max by (kind) (distillrun_cache_objects)", "{{kind}}"),)),
        Panel(
            "Memory and CPU",
            (
                (f"process_resident_memory_bytes {OPERATOR}", "{{instance}} bytes"),
                (f"rate(process_cpu_seconds_total[$__rate_interval]) {OPERATOR}", "{{instance}} cores"),
            ),
        ),
    ),
}
