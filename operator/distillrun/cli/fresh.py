"""Fresher numbers than status has: pulled from the pod of the stage that runs, laid over the view.

Status is written every half a minute, to spare the API server; whoever watches wants to see a bar move. Where the
user may not ask pods (`pods/proxy`), or the pod does not answer, the view stays as status has it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace

from distillrun.cli.view import RunView, StageView
from distillrun.cluster.errors import ApiError
from distillrun.plan.names import LABEL_ATTEMPT, LABEL_RUN_UID, LABEL_STAGE
from distillrun.plan.progress import number

Numbers = tuple[Mapping[str, float], str]
"""Numbers by name, without our prefix, and the unit of progress."""

WINDOW_SECONDS = 20.0
"""The rate is that of so many seconds."""


class Freshener:
    """Lays a running stage's own numbers over the view of its run.

    `ask(namespace, labels)` gives a pod's numbers or raises ApiError; `clock` is a monotonic one, in seconds.
    """

    def __init__(self, ask: Callable[[str, Mapping[str, str]], Numbers], clock: Callable[[], float]) -> None:
        self._ask, self._clock = ask, clock
        self._attempt: tuple[str, int] | None = None
        self._seen: deque[tuple[float, float]] = deque()
        self._forbidden = False

    def freshen(self, run: RunView) -> RunView:
        """The run with the numbers of now; the same run if there are none."""
        stage = next((each for each in run.stages if each.state == "Running" and each.name != "serve"), None)
        if stage is None or self._forbidden:
            return run
        labels = {LABEL_RUN_UID: run.uid, LABEL_STAGE: stage.name, LABEL_ATTEMPT: str(stage.attempt)}
        try:
            numbers, unit = self._ask(run.namespace, labels)
        except ApiError as error:
            self._forbidden = error.code in (401, 403)
            return run
        fresh = self._lay(stage, numbers, unit)
        return replace(run, stages=tuple(fresh if each is stage else each for each in run.stages))

    def _lay(self, stage: StageView, numbers: Mapping[str, float], unit: str) -> StageView:
        done, total = numbers.get("progress_done"), numbers.get("progress_total")
        if done is None or not total:
            return stage
        rate = self._rate(stage, done)
        checkpoint = numbers.get("checkpoint_step")
        return replace(
            stage,
            done=int(done),
            total=int(total),
            unit=unit or stage.unit,
            rate=rate,
            eta=int((total - done) / rate) if rate > 0 else None,
            numbers={**stage.numbers, **{name: number(value) for name, value in numbers.items()}},
            checkpoint=int(checkpoint) if checkpoint else stage.checkpoint,
        )

    def _rate(self, stage: StageView, done: float) -> float:
        """Units a second over the window; what status says until two looks have been taken."""
        now = self._clock()
        if self._attempt != (stage.name, stage.attempt):
            self._attempt = (stage.name, stage.attempt)
            self._seen.clear()
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[0][0] < now - WINDOW_SECONDS:
            self._seen.popleft()
        then, before = self._seen[0]
        elapsed = now - then
        return (done - before) / elapsed if elapsed > 0 and done >= before else stage.rate
