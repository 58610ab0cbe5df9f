"""What is continued from when checkpoints are damaged: several ranks as threads, each checking its own files."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from distillstages.common import identity
from distillstages.common.exit import DataFault, Temporary
from distillstages.train import manifest
from distillstages.train.checkpoints import MARKER, Checkpoint, Checkpoints
from distillstages.train.resume import Start, choose
from tests.stages.train.test_checkpoints import at, publish

RANKS = 2


class Ranks:
    """A process group whose ranks are threads."""

    def __init__(self, ranks: int) -> None:
        self._said: dict[int, Any] = {}
        self._barrier = threading.Barrier(ranks, timeout=30)
        self._mine = threading.local()

    def begin(self, rank: int) -> None:
        self._mine.rank = rank

    def gather(self, value: Any) -> list[Any]:
        self._said[self._mine.rank] = value
        self._barrier.wait()
        said = [self._said[rank] for rank in sorted(self._said)]
        self._barrier.wait()
        return said

    def agree(self, value: Any) -> Any:
        return self.gather(value)[0]


def save(checkpoints: Checkpoints, step: int, ranks: int = RANKS) -> None:
    folder = checkpoints.partial / f"checkpoint-{step}"
    (folder / f"global_step{step}").mkdir(parents=True)
    (folder / "trainer_state.json").write_text("{}")
    for rank in range(ranks):
        shard = folder / f"global_step{step}" / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        shard.write_bytes(bytes([rank]) * 5000)
        (folder / f"rng_state_{rank}.pth").write_bytes(b"rng")
    publish(checkpoints, step, ranks)


def saved(folder: Path, *steps: int, keep: int = 3) -> Checkpoints:
    first = at(folder, 1, keep=keep)
    for step in steps:
        save(first, step)
    return at(folder, 2, keep=keep)


def start(checkpoints: Checkpoints, *, every_steps: int = 5, see: Callable[..., Any] | None = None) -> list[Start]:
    """What each rank decides. `see(checkpoint, rank)` is how a rank sees its files, by default as they are."""
    talk = Ranks(RANKS)

    def rank_of(rank: int) -> Start:
        talk.begin(rank)

        def check(checkpoint: Checkpoint) -> list[str]:
            if see is not None:
                return list(see(checkpoint, rank))
            return manifest.check(checkpoint.path, checkpoint.files, rank, RANKS, look_again_seconds=())

        return choose(checkpoints, talk, rank=rank, ranks=RANKS, every_steps=every_steps, check=check)

    with ThreadPoolExecutor(RANKS) as threads:
        return [each.result() for each in [threads.submit(rank_of, rank) for rank in range(RANKS)]]


def shard(checkpoint: Path, rank: int = 1) -> Path:
    return next(checkpoint.glob(f"global_step*/zero_pp_rank_{rank}_*"))


def turn_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "the file of a rank is missing": (lambda c: shard(c).unlink(), "is missing"),
    "the file of the first rank is missing": (lambda c: shard(c, 0).unlink(), "is missing"),
    "it is cut short": (lambda c: shard(c).write_bytes(shard(c).read_bytes()[:-1]), "has 4,999 of 5,000 bytes"),
    "it is empty": (lambda c: shard(c).write_bytes(b""), "has 0 of 5,000 bytes"),
    "it is longer": (lambda c: shard(c).write_bytes(shard(c).read_bytes() + b"1"), "has 5,001 of 5,000 bytes"),
    "a bit has turned": (lambda c: turn_a_bit(shard(c)), "has other content than when it was saved"),
    "it is all zeros": (lambda c: shard(c).write_bytes(bytes(5000)), "has other content than when it was saved"),
    "it cannot be read": (lambda c: replace_by_folder(shard(c)), "cannot be read (Is a directory)"),
    "a small file is gone": (lambda c: (c / "trainer_state.json").unlink(), "trainer_state.json is missing"),
    "a rank's random state is gone": (lambda c: (c / "rng_state_1.pth").unlink(), "rng_state_1.pth is missing"),
    "its marker is gone": (lambda c: (c / MARKER).unlink(), "complete.json is missing"),
    "its marker is empty": (lambda c: (c / MARKER).write_text(""), "complete.json is not what was written"),
    "its marker names no files": (
        lambda c: (c / MARKER).write_text('{"step": 10, "attempt": 1, "ranks": 2, "files": {}}'),
        "complete.json is not what was written",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_said_and_set_aside_and_the_one_before_it_is_continued_from(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = saved(tmp_path, 5, 10)
    DAMAGES[damage][0](checkpoints.folder / "checkpoint-10-1")

    with caplog.at_level(logging.WARNING):
        starts = start(checkpoints)

    assert [(each.checkpoint and each.checkpoint.step, each.damaged) for each in starts] == [(5, 1)] * RANKS
    said = [record.fields for record in caplog.records if record.message == "damaged checkpoint set aside"]  # type: ignore[attr-defined]
    assert [each["step"] for each in said] == [10]
    assert DAMAGES[damage][1] in said[0]["wrong"]
    assert (checkpoints.folder / said[0]["now"]).is_dir(), "it is kept for whoever wants to look at it"
    assert [each.step for each in checkpoints.published()] == [5]


def test_undamaged_the_newest_is_continued_from(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 5, 10)

    assert {each.checkpoint and each.checkpoint.step for each in start(checkpoints)} == {10}
    assert [each.damaged for each in start(checkpoints)] == [0, 0]


def test_a_checkpoint_that_one_rank_does_not_see_whole_is_continued_from_by_none(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 5, 10)

    starts = start(checkpoints, see=lambda c, rank: ["is missing"] if (c.step, rank) == (10, 1) else [])

    assert [each.checkpoint and each.checkpoint.step for each in starts] == [5, 5]


def test_damaged_ones_go_once_a_good_one_of_as_many_steps_is_there(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 5, 10)
    shard(checkpoints.folder / "checkpoint-10-1").unlink()
    start(checkpoints)

    save(checkpoints, 8)
    assert [path.name for path in checkpoints.folder.glob("damaged-10-*")] != []
    save(checkpoints, 10)
    assert [path.name for path in checkpoints.folder.glob("damaged-*")] == []
    assert [each.step for each in checkpoints.whole()] == [10, 8, 5]


def test_a_damaged_one_does_not_take_the_place_of_a_good_one_that_is_kept(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 5, 10, keep=2)
    shard(checkpoints.folder / "checkpoint-10-1").unlink()
    start(checkpoints)

    save(checkpoints, 8)

    assert [each.step for each in checkpoints.whole()] == [8, 5]


def test_training_begins_again_where_that_costs_no_more_than_one_interval(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 5)
    shard(checkpoints.folder / "checkpoint-5-1").unlink()

    assert start(checkpoints, every_steps=5) == [Start(None, damaged=1)] * RANKS


def test_where_every_checkpoint_is_damaged_the_user_decides_whether_to_pay_again(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 5, 10)
    for step in (5, 10):
        shard(checkpoints.folder / f"checkpoint-{step}-1").unlink()

    with pytest.raises(DataFault, match=r"repeat 10 steps.*raise retry alone to begin again") as caught:
        start(checkpoints, every_steps=5)

    assert caught.value.reason == "CheckpointsDamaged"
    assert "of step 5: global_step5/zero_pp_rank_1_mp_rank_00_optim_states.pt is missing" in caught.value.message
    assert len(list(checkpoints.folder.glob("damaged-*"))) == 2
    # `retry` alone makes the next attempt.
    assert start(at(tmp_path, 3)) == [Start(None)] * RANKS


def test_a_stale_attempt_sets_nothing_aside(tmp_path: Path) -> None:
    stale = saved(tmp_path, 5, 10)
    shard(stale.folder / "checkpoint-10-1").unlink()
    at(tmp_path, 3)

    with pytest.raises(Temporary):
        stale.set_aside(stale.published()[0])

    assert (stale.folder / "checkpoint-10-1").is_dir()


def test_a_file_that_a_network_file_system_shows_late_is_waited_for(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 5)
    checkpoint = checkpoints.published()[0]
    hidden = tmp_path / "hidden"
    shard(checkpoint.path).rename(hidden)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            hidden.rename(checkpoint.path / "global_step5" / "zero_pp_rank_1_mp_rank_00_optim_states.pt")

    assert manifest.check(checkpoint.path, checkpoint.files, 1, RANKS, sleep=sleep) == []
    assert slept == [1.0, 5.0]


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("global_step5/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt", 1),
        ("global_step5/zero_pp_rank_12_mp_rank_00_model_states.pt", 12),
        ("rng_state_3.pth", 3),
        ("rng_state.pth", 0),
        ("trainer_state.json", 0),
        ("zero_pp_rank_16_mp_rank_00_model_states.pt", 0),
    ],
)
def test_every_file_is_looked_at_by_the_rank_that_wrote_it(name: str, owner: int) -> None:
    assert manifest.owner(name, ranks=16) == owner


def test_of_a_big_file_only_some_blocks_are_read_the_first_and_the_last_among_them(tmp_path: Path) -> None:
    path = tmp_path / "shard.pt"
    size = identity.WHOLE_BYTES + 5
    with path.open("wb") as file:
        file.truncate(size)
    (found,) = manifest.describe(tmp_path, 0, 1).items()
    assert found[1][0] == size

    for offset, seen in ((0, True), (size - 1, True), ((size >> 1) + (1 << 20), False)):
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(b"1")
        assert bool(manifest.check(tmp_path, dict([found]), 0, 1)) is seen, offset
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(b"\0")
