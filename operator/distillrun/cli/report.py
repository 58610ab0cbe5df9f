"""The final report of a run: scores, traces, time and cost, and where to look further. Pure."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlsplit

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from distillrun.cli.view import GateView, RunView, StageView
from distillrun.cli.words import count, duration, interval, money, notices, rejections, serving, share


def report(run: RunView, now: datetime) -> RenderableType:
    """Everything that a reader wants to know of a run once it has ended; of a running one, what there is."""
    parts: list[RenderableType] = [_verdict(run), Text()]
    if run.scores:
        parts += [_scores(run), Text()]
    curate = next((stage for stage in run.stages if stage.name == "curate"), None)
    if curate is not None and curate.results:
        parts += [_traces(curate), Text()]
    if run.stages:
        parts += [_stages(run, now), Text()]
    if remarks := _remarks(run):
        parts += [*(Text(line) for line in remarks), Text()]
    parts.append(_further(run))
    return Group(*parts)


def _verdict(run: RunView) -> Text:
    gate = run.conditions.get("GatesPassed")
    if run.passed:
        words = gate.message if gate else run.message
        return Text.assemble(
            (f"{run.namespace}/{run.name}: ", "bold"), (f"gates {words}" if gate else words, "bold green")
        )
    words = run.message or run.phase
    style = "bold red" if run.outcome == "failed" else "bold yellow"
    return Text.assemble((f"{run.namespace}/{run.name}: ", "bold"), (words, style))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def _scores(run: RunView) -> Table:
    models = sorted(dict.fromkeys(score.model for score in run.scores), key=lambda model: (model == "student", model))
    table = _table("Accuracy with 95 % interval", "benchmark", *models, "questions", "gate")
    for benchmark in dict.fromkeys(score.benchmark for score in run.scores):
        own = {score.model: score for score in run.scores if score.benchmark == benchmark}
        cells = [interval(own[model]) if model in own else "" for model in models]
        gates = ", ".join(_gate(run, gate) for gate in run.gates if gate.benchmark == benchmark)
        table.add_row(escape(benchmark), *cells, count(max(score.samples for score in own.values())), gates)
    return table


def _gate(run: RunView, gate: GateView) -> str:
    score = next((each for each in run.scores if each.benchmark == gate.benchmark and each.model == "student"), None)
    bound = gate.metric == "AccuracyLowerBound"
    words = f"{'lower end ' if bound else ''}≥ {share(gate.at_least)}"
    if score is None:
        return f"{words} no score"
    cleared = (score.low if bound else score.value) >= gate.at_least
    return f"{words} {'passed' if cleared else 'missed'}"


def _traces(stage: StageView) -> Table:
    table = _table("Traces", "", "traces")
    table.add_row("accepted", count(stage.results.get("accepted")))
    table.add_row("rejected", count(stage.results.get("rejected")))
    for reason, traces in rejections(stage).items():
        table.add_row(f"  {escape(reason)}", count(traces))
    if (stage.results.get("reusedAnswers") or "0") != "0":
        table.add_row("answers of earlier curations", count(stage.results["reusedAnswers"]))
    if (stage.results.get("duplicates") or "0") != "0":
        table.add_row("duplicate questions left out", count(stage.results["duplicates"]))
    return table


def _stages(run: RunView, now: datetime) -> Table:
    table = _table("Stages", "stage", "state", "attempts", "preempted", "time", "GPU time", "cost")
    total = 0.0
    for stage in run.stages:
        seconds = None if stage.name == "serve" else stage.seconds(now)
        total += seconds or 0.0
        cost = money(stage.cost, run.currency) + (" *" if stage.estimated else "")
        times = (duration(seconds), duration(stage.gpu_seconds))
        table.add_row(stage.name, stage.state, str(stage.attempt or ""), str(stage.preemptions or ""), *times, cost)
    sums = (duration(total), duration(run.gpu_seconds), money(run.spent, run.currency))
    table.add_row("total", "", "", "", *sums, style="bold")
    if any(stage.estimated for stage in run.stages):
        table.caption = "* an upper bound: a pod was gone before its time was read"
        table.caption_justify = "left"
    return table


def _remarks(run: RunView) -> list[str]:
    """What the table does not say: where results came from, what was expected and allowed, what is not as it should."""
    lines = [f"{stage.name} was taken over from run {stage.reused_from}" for stage in run.stages if stage.reused_from]
    if run.expected:
        took = f", {duration(run.expected_seconds)}" if run.expected_seconds else ""
        lines.append(f"Training was expected to cost {money(run.expected, run.currency)}{took}: {run.method}")
    if run.budget:
        lines.append(f"The budget is {money(run.budget, run.currency)}")
    if run.unchecked:
        lines.append(f"Nobody has chosen a commit of {', '.join(run.unchecked)}: the newest was used (status.resolved)")
    if words := serving(run):
        lines.append(words[0].upper() + words[1:])
    return lines + notices(run)


def _further(run: RunView) -> RenderableType:
    lines = [f"{kind:8} {uri}" for kind, uri in run.artifacts.items()] + commands(run)
    # Never wrapped nor cut, so that they can be copied.
    return Group(Text("Look further", "bold"), *(Text(f"  {line}", no_wrap=True, overflow="ignore") for line in lines))


def commands(run: RunView) -> list[str]:
    """Commands that show more of a run, for a shell."""
    at = f"kubectl -n {run.namespace}"
    found = [
        f"{at} get distillrun {run.name} -o yaml",
        f"{at} events --for distillrun/{run.name}",
        f"{at} get pods -l distillrun.dev/run={run.name}",
    ]
    failed = next((stage.name for stage in run.stages if stage.state == "Failed"), None)
    if failed:
        selector = f"distillrun.dev/run={run.name},distillrun.dev/stage={failed}"
        found.append(f"{at} logs -l {selector} --tail 50 --prefix")
    if run.endpoint:
        host = urlsplit(run.endpoint).hostname or ""
        port = urlsplit(run.endpoint).port or 80
        body = f'{{"model": "{run.model}", "messages": [{{"role": "user", "content": "…"}}]}}'
        found += [
            f"{at} port-forward service/{host.split('.')[0]} {port}:{port}",
            f"curl -s localhost:{port}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'",
        ]
    return found
