"""Numbers pulled from the running stage's pod, laid over what status has."""

from __future__ import annotations

from collections.abc import Mapping

from distillrun.cli.fresh import Freshener, Numbers
from distillrun.cli.view import RunView, read
from distillrun.cli.words import headline
from distillrun.cluster.errors import ApiError
from tests.cli import runs


class Pods:
    """Pods that say what the test wants, on a clock of the test's."""

    def __init__(self, *said: Numbers | ApiError) -> None:
        self.said = list(said)
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.now = 0.0

    def ask(self, namespace: str, labels: Mapping[str, str]) -> Numbers:
        self.asked.append((namespace, labels))
        self.now += 2.0
        answer = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        if isinstance(answer, ApiError):
            raise answer
        return answer

    def freshener(self) -> Freshener:
        return Freshener(self.ask, lambda: self.now)


def step(done: int, **more: float) -> Numbers:
    return {"progress_done": done, "progress_total": 600, **more}, "steps"


def fresh(pods: Pods, *views: RunView) -> list[RunView]:
    freshener = pods.freshener()
    return [freshener.freshen(view) for view in views]


def test_a_bar_moves_between_two_writes_of_status() -> None:
    view = read(runs.training())
    pods = Pods(step(300, loss=0.02), step(310, loss=0.01, checkpoint_step=300))
    first, second = fresh(pods, view, view)
    assert (first.stages[1].done, second.stages[1].done) == (300, 310)
    assert second.stages[1].rate == 5.0
    assert headline(second.stages[1]) == ("loss 0.01 · 12,346 tokens/s · checkpoint 300 · 5.0 steps/s · ETA 0:58")


def test_the_pods_of_this_very_attempt_are_asked() -> None:
    pods = Pods(step(1))
    fresh(pods, read(runs.training()))
    assert pods.asked == [
        (
            "demo-team",
            {"distillrun.dev/run-uid": "uid-1", "distillrun.dev/stage": "train", "distillrun.dev/attempt": "2"},
        )
    ]


def test_the_first_look_keeps_the_rate_that_status_has() -> None:
    assert fresh(Pods(step(300)), read(runs.training()))[0].stages[1].rate == 3.5


def test_a_rate_is_that_of_the_last_seconds_only() -> None:
    view = read(runs.training())
    told = fresh(Pods(*(step(done) for done in [100] * 20), *(step(100 + 4 * i) for i in range(1, 20))), *[view] * 39)
    assert told[-1].stages[1].rate == 2.0


def test_rejections_by_reason_come_from_the_pod_too() -> None:
    pods = Pods(({"progress_done": 3000, "progress_total": 4000, 'traces_rejected{reason="NoAnswer"}': 7}, "questions"))
    (view,) = fresh(pods, read(runs.curating()))
    assert "212 rejected" in headline(view.stages[0])


def test_a_pod_that_does_not_answer_leaves_the_view_as_status_has_it_and_is_asked_again() -> None:
    view = read(runs.training())
    away = ApiError(503, "ServiceUnavailable", "no endpoints")
    first, second = fresh(Pods(away, step(300)), view, view)
    assert first == view
    assert second.stages[1].done == 300


def test_who_may_not_ask_pods_is_not_made_to_try_again() -> None:
    view = read(runs.training())
    pods = Pods(ApiError(403, "Forbidden", "no"))
    assert fresh(pods, view, view) == [view, view]
    assert len(pods.asked) == 1


def test_a_run_of_which_no_stage_runs_asks_nobody() -> None:
    pods = Pods(step(1))
    fresh(pods, *(read(each()) for each in (runs.fresh, runs.waiting, runs.served, runs.failed)))
    assert pods.asked == []


def test_a_pod_that_knows_no_total_yet_changes_nothing() -> None:
    view = read(runs.training())
    assert fresh(Pods(({"progress_done": 0.0, "progress_total": 0.0}, "")), view)[0] == view
