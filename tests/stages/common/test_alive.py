"""Two runs with the same fingerprint: whoever is at work is left alone, whoever has ended is taken over from."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from distillstages.common import alive
from distillstages.common.artifacts import Output
from distillstages.common.exit import Temporary


def output(folder: Path, run: str, attempt: int = 1) -> Output:
    return Output(folder.as_uri(), stage="train", fingerprint="7e" * 32, attempt=attempt, who=f"pod-of-{run}", run=run)


def test_another_run_at_work_is_left_alone(tmp_path: Path) -> None:
    first = output(tmp_path, "run-1")
    first.claim()
    first.write(alive.path_of(first.token), b"1")

    def work(seconds: float) -> None:
        first.write(alive.path_of(first.token), b"2")

    with pytest.raises(Temporary, match=r"another run \(run-1, pod pod-of-run-1\) computes the same") as caught:
        alive.leave_to_others(output(tmp_path, "run-2"), sleep=work)
    assert caught.value.retry_after_seconds == alive.RETRY_SECONDS
    first.check_claim()


def test_another_run_that_has_ended_is_taken_over_from_after_a_while(tmp_path: Path) -> None:
    first = output(tmp_path, "run-1")
    first.claim()
    first.write(alive.path_of(first.token), b"1")
    slept: list[float] = []

    second = output(tmp_path, "run-2")
    alive.leave_to_others(second, sleep=slept.append)
    second.claim()

    assert sum(slept) == alive.WATCH_SECONDS > 2 * alive.BEAT_SECONDS
    with pytest.raises(Temporary):
        first.check_claim()


@pytest.mark.parametrize("attempt", [2, 1])
def test_the_next_attempt_of_the_same_run_does_not_wait(attempt: int, tmp_path: Path) -> None:
    first = output(tmp_path, "run-1")
    first.claim()
    first.write(alive.path_of(first.token), b"1")

    def never(seconds: float) -> None:
        raise AssertionError("it has waited")

    alive.leave_to_others(output(tmp_path, "run-1", attempt), sleep=never)
    alive.leave_to_others(output(tmp_path / "nobody", "run-2"), sleep=never)


def test_signs_of_an_attempt_that_was_overtaken_do_not_count(tmp_path: Path) -> None:
    stale, holder = output(tmp_path, "run-1"), output(tmp_path, "run-1", 2)
    stale.claim()
    holder.claim()
    holder.write(alive.path_of(holder.token), b"1")

    alive.leave_to_others(
        output(tmp_path, "run-2"), sleep=lambda _: stale.write(alive.path_of(stale.token), str(time.time()).encode())
    )


def test_signs_change_until_the_work_has_ended(tmp_path: Path) -> None:
    mine = output(tmp_path, "run-1")
    mine.claim()
    ended = threading.Event()

    alive.give_signs(mine, ended=ended, seconds=0.01)

    seen: set[bytes | None] = set()
    while len(seen - {None}) < 3:
        seen.add(mine.read(alive.path_of(mine.token)))
    ended.set()
