from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from distillstages.common.artifacts import Output
from distillstages.common.exit import DataFault, Temporary
from distillstages.train import checkpoints as checkpoints_module
from distillstages.train import manifest
from distillstages.train.checkpoints import MARKER, Checkpoint, Checkpoints


def at(folder: Path, attempt: int, *, keep: int = 2) -> Checkpoints:
    output = Output(folder.as_uri(), stage="train", fingerprint="7e" * 32, attempt=attempt, who=f"pod-{attempt}")
    output.claim()
    checkpoints = Checkpoints(output, keep=keep, token=output.token)
    checkpoints.prepare()
    return checkpoints


def write(checkpoints: Checkpoints, step: int, content: str = "weights") -> None:
    folder = checkpoints.partial / f"checkpoint-{step}"
    (folder / f"global_step{step}").mkdir(parents=True)
    (folder / f"global_step{step}" / "shard.pt").write_text(content)


def publish(checkpoints: Checkpoints, step: int, ranks: int = 1) -> Checkpoint:
    folder = checkpoints.partial / f"checkpoint-{step}"
    parts = [manifest.describe(folder, rank, ranks) for rank in range(ranks)]
    return checkpoints.publish(step, ranks, {name: what for part in parts for name, what in part.items()})


def test_the_newest_whole_checkpoint_is_continued_from(tmp_path: Path) -> None:
    first = at(tmp_path, 1)
    for step in (5, 10):
        write(first, step)
        publish(first, step, ranks=2)

    newest = at(tmp_path, 2).candidates(ranks=2)[0]

    assert (newest.step, newest.attempt, newest.path.name) == (10, 1, "checkpoint-10-1")
    assert (newest.path / "global_step10" / "shard.pt").read_text() == "weights"


def test_what_was_half_written_is_never_continued_from(tmp_path: Path) -> None:
    first = at(tmp_path, 1)
    write(first, 5)
    publish(first, 5, ranks=2)
    write(first, 10)  # killed while writing
    (first.folder / "checkpoint-15").mkdir()  # no marker
    (first.folder / "checkpoint-20").mkdir()
    (first.folder / "checkpoint-20" / MARKER).write_text('{"step": 2')

    second = at(tmp_path, 2)

    assert [each.step for each in second.whole()] == [5]
    assert [each.unreadable for each in second.published()] == [
        "complete.json is not what was written",
        "complete.json is missing",
        None,
    ]
    assert not first.partial.exists()


def test_only_the_newest_few_are_kept(tmp_path: Path) -> None:
    checkpoints = at(tmp_path, 1, keep=2)
    for step in (5, 10, 15, 20):
        write(checkpoints, step)
        publish(checkpoints, step, ranks=1)

    assert [each.step for each in checkpoints.whole()] == [20, 15]
    assert sorted(path.name for path in checkpoints.folder.glob("checkpoint-*")) == [
        "checkpoint-15-1",
        "checkpoint-20-1",
    ]


def test_shards_of_another_number_of_ranks_are_left_alone(tmp_path: Path) -> None:
    checkpoints = at(tmp_path, 1)
    write(checkpoints, 5)
    publish(checkpoints, 5, ranks=2)

    assert checkpoints.candidates(ranks=4) == []
    assert [each.step for each in checkpoints.candidates(ranks=2)] == [5]


def test_one_that_was_killed_while_it_removed_a_checkpoint_leaves_nothing_that_looks_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = at(tmp_path, 1, keep=1)
    write(first, 5)
    publish(first, 5)
    write(first, 10)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # as far as it came
    publish(first, 10)
    monkeypatch.undo()

    assert [each.step for each in first.published()] == [10]
    at(tmp_path, 2)
    assert sorted(path.name for path in first.folder.iterdir()) == [".partial-4", "checkpoint-10-1"]


def test_a_stale_attempt_publishes_no_checkpoint(tmp_path: Path) -> None:
    stale = at(tmp_path, 1)
    write(stale, 5)
    newer = at(tmp_path, 2)
    write(stale, 10, "stale")

    with pytest.raises(Temporary) as caught:
        publish(stale, 10)

    assert caught.value.reason == "SupersededAttempt"
    assert newer.published() == []


def test_nor_does_one_that_was_stopped_after_it_had_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = at(tmp_path, 1)
    write(stale, 5, "stale")
    create, newer = stale.output.create, []

    def stopped_just_before(path: str, data: bytes) -> bool:
        if not newer:
            newer.append(at(tmp_path, 2))
            write(newer[0], 5, "newer")
            publish(newer[0], 5)
        return create(path, data)

    monkeypatch.setattr(stale.output, "create", stopped_just_before)
    with pytest.raises(Temporary):
        publish(stale, 5)

    (found,) = newer[0].published()
    assert (found.path / "global_step5" / "shard.pt").read_text() == "newer"
    assert found.attempt == 2


def test_one_that_was_stopped_before_it_removed_old_ones_removes_none_of_the_newer_attempt(tmp_path: Path) -> None:
    stale = at(tmp_path, 1, keep=1)
    for step in (10, 20):
        write(stale, step)
    publish(stale, 10)
    newer = at(tmp_path, 2, keep=3)
    for step in (15, 18):
        write(newer, step)
        publish(newer, step)

    stale._prune(20)

    assert [each.step for each in newer.published()] == [18, 15, 10]


def test_one_that_starts_late_does_not_touch_what_the_newer_attempt_is_writing(tmp_path: Path) -> None:
    stale = at(tmp_path, 1)
    write(stale, 5)
    newer = at(tmp_path, 2)
    write(newer, 10)

    stale.prepare()

    assert publish(newer, 10).step == 10


def test_two_runs_first_attempts_write_to_different_places(tmp_path: Path) -> None:
    assert at(tmp_path, 1).partial != at(tmp_path, 1).partial


def test_a_checkpoint_that_was_allowed_and_not_yet_renamed_is_there_for_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = at(tmp_path, 1)
    write(first, 5)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints_module, "move_durably", killed)
        with pytest.raises(KeyboardInterrupt):
            publish(first, 5)
    assert first.published() == []

    assert [each.step for each in at(tmp_path, 2).whole()] == [5]


def test_a_step_reached_again_counts_instead_of_the_earlier_one(tmp_path: Path) -> None:
    first = at(tmp_path, 1, keep=1)
    write(first, 5, "old")
    publish(first, 5)
    second = at(tmp_path, 2, keep=1)
    write(second, 5, "new")

    checkpoint = publish(second, 5)

    assert (checkpoint.path / "global_step5" / "shard.pt").read_text() == "new"
    assert [each.attempt for each in second.published()] == [2]


def test_a_full_disk_is_said_and_the_earlier_checkpoint_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = at(tmp_path, 1)
    write(checkpoints, 5)
    publish(checkpoints, 5, ranks=1)
    write(checkpoints, 10)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataFault) as caught:
        publish(checkpoints, 10, ranks=1)

    assert caught.value.reason == "DiskFull"
    assert [each.step for each in checkpoints.whole()] == [5]
