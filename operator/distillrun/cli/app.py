"""The commands of `kubectl distill`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from distillrun.cli import control
from distillrun.cli.fresh import Freshener
from distillrun.cli.listing import listing
from distillrun.cli.live import EventView, event_line, events, lines, live
from distillrun.cli.report import report as render_report
from distillrun.cli.shared import Context, Name, Namespace, fail, missing
from distillrun.cli.view import RunView, read
from distillrun.cluster.errors import ApiError
from distillrun.cluster.readonly import Json, Reader, default_namespace
from distillrun.cluster.userwrites import Writer

INTERVAL_SECONDS = 2.0
TRIES = 5
"""How often a change is tried that meets another one: the operator writes statuses all the time."""

app = typer.Typer(
    help="Watch, report on and steer DistillRuns.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Gone(Exception):
    """The run does not exist, or not any more."""


class Looker:
    """Looks at one run again and again; an API server that does not answer for a while is no end."""

    def __init__(self, reader: Reader, namespace: str, name: str) -> None:
        self._reader, self._namespace, self._name = reader, namespace, name
        self._freshener = Freshener(reader.numbers, time.monotonic)
        self.run: RunView | None = None
        self.events: list[EventView] = []
        self.trouble = ""

    def look(self) -> None:
        """Renews `run`, `events` and `trouble`. Raises Gone, or ApiError when the first look fails."""
        try:
            run = read(self._reader.run(self._namespace, self._name))
        except ApiError as error:
            if error.not_found:
                raise Gone(missing(self._namespace, self._name)) from error
            if self.run is None or not error.retryable:
                raise
            self.trouble = f"the API server does not answer ({error.reason}); trying again"
            return
        if self.run is not None and self.run.uid != run.uid:
            raise Gone(f"DistillRun {self._name!r} was deleted, and another one of that name was created")
        self.run, self.trouble = run, ""
        try:
            self.events = events(self._reader.events(self._namespace, run.uid))
        except ApiError:
            self.events = []  # whoever may read runs need not be allowed to read events

    def freshen(self) -> None:
        """Lays over `run` what its running stage says of itself right now."""
        if self.run is not None and not self.trouble:
            self.run = self._freshener.freshen(self.run)


@app.command()
def watch(
    name: Name,
    namespace: Namespace = None,
    context: Context = None,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between looks.")] = INTERVAL_SECONDS,
    timeout: Annotated[float | None, typer.Option(min=0, help="Give up after so many seconds (exit code 3).")] = None,
) -> None:
    """Shows a run live until it is served, complete or failed. Exit code 0 if it is Ready, 1 if it failed."""
    looker = _looker(name, namespace, context)
    console = Console()
    follow = _follow_on_screen if console.is_terminal else _follow_in_lines
    until = None if timeout is None else time.monotonic() + timeout
    try:
        ended = follow(looker, console, interval, lambda: until is not None and time.monotonic() > until)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except (Gone, ApiError) as error:
        fail(str(error))
    if not ended:
        fail(f"{name} had not ended after {timeout:g} seconds", code=3)
    assert looker.run is not None
    raise typer.Exit(0 if looker.run.outcome == "done" else 1)


@app.command()
def report(name: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Prints what a run has come to: scores, traces, time, cost. Exit code 0 only if its gates are passed."""
    looker = _looker(name, namespace, context)
    try:
        looker.look()
    except (Gone, ApiError) as error:
        fail(str(error))
    assert looker.run is not None
    # Tables must not be cut where output goes to a file.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(render_report(looker.run, datetime.now(UTC)), crop=False, highlight=False)
    raise typer.Exit(0 if looker.run.passed else 1)


@app.command(name="list")
def list_runs(
    namespace: Namespace = None,
    context: Context = None,
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Runs of all namespaces.")] = False,
) -> None:
    """Lists runs, a line each: where they stand, what they cost, what they wait for."""
    try:
        where = None if everywhere else namespace or default_namespace(context)
        views = [read(run) for run in Reader(context).runs(where)]
    except (ValueError, ApiError) as error:
        fail(str(error))
    if not views:
        fail(f"there is no DistillRun in {f'namespace {where!r}' if where else 'any namespace'}", code=0)
    console = Console() if sys.stdout.isatty() else Console(width=10_000)
    console.print(listing(views, datetime.now(UTC), namespaces=everywhere), highlight=False)


@app.command()
def suspend(name: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Stops everything of a run that costs money; artifacts and checkpoints stay (spec.suspend: true)."""
    _change(control.suspend, name, namespace, context)


@app.command()
def resume(name: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Lets a suspended run go on from its last checkpoint (spec.suspend: false)."""
    _change(control.resume, name, namespace, context)


@app.command()
def retry(name: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Tries the failed stage of a run again, from its last checkpoint (raises spec.retry)."""
    _change(control.retry, name, namespace, context)


def _change(decide: Callable[[Json], control.Change], name: str, namespace: str | None, context: str | None) -> None:
    """Read the run, decide, change its spec; again when somebody else wrote it in between."""
    try:
        writer, where = Writer(context), namespace or default_namespace(context)
        for left in reversed(range(TRIES)):
            run = writer.run(where, name)
            change = decide(run)
            try:
                if change.spec:
                    writer.change(run, change.spec)
                break
            except ApiError as error:
                if not error.conflict or not left:
                    raise
    except ApiError as error:
        if error.not_found:
            fail(missing(namespace or default_namespace(context), name))
        if error.code == 403:
            fail(f"{error.message}: this takes the right to get and patch distillruns in that namespace")
        fail(f"DistillRun {name} was not changed: {error.message}")
    except (ValueError, control.Refused) as error:
        fail(str(error))
    typer.echo(change.said)
    if change.spec and (owner := control.owner(run)):
        field = next(iter(change.spec))
        typer.echo(f"{owner} manages this run and may undo it: change spec.{field} in its source, too", err=True)


def _looker(name: str, namespace: str | None, context: str | None) -> Looker:
    try:
        return Looker(Reader(context), namespace or default_namespace(context), name)
    except ValueError as error:
        fail(str(error))


def _follow_on_screen(looker: Looker, console: Console, interval: float, late: Callable[[], bool]) -> bool:
    looker.look()
    with Live(console=console, auto_refresh=False, transient=False) as screen:
        while True:
            looker.freshen()
            assert looker.run is not None
            screen.update(live(looker.run, looker.events, datetime.now(UTC), looker.trouble), refresh=True)
            if looker.run.outcome != "running":
                return True
            if late():
                return False
            time.sleep(interval)
            looker.look()


def _follow_in_lines(looker: Looker, console: Console, interval: float, late: Callable[[], bool]) -> bool:
    before: RunView | None = None
    told: set[EventView] = set()
    while True:
        looker.look()
        assert looker.run is not None
        news = [event_line(event) for event in looker.events if event not in told]
        for line in [*lines(before, looker.run), *news, *([looker.trouble] if looker.trouble else [])]:
            print(f"{datetime.now():%H:%M:%S} {line}", flush=True)
        told |= set(looker.events)
        before = looker.run
        if looker.run.outcome != "running":
            return True
        if late():
            return False
        time.sleep(interval)
