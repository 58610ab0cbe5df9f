"""The output folder: claims, fencing, and a result that is there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distillstages.common.artifacts import Output
from distillstages.common.exit import ConfigFault, DataFault, Temporary
from distillstages.common.files import local_path
from distillstages.common.result import Result

FINGERPRINT = "9c" * 32


def output(
    folder: Path, attempt: int = 1, who: str = "pod-1", fingerprint: str = FINGERPRINT, run: str = "run-1"
) -> Output:
    return Output(folder.as_uri(), stage="curate", fingerprint=fingerprint, attempt=attempt, who=who, run=run)


def test_what_was_published_is_found_complete(tmp_path: Path) -> None:
    mine = output(tmp_path / "a/b")
    assert mine.completed() is None
    mine.claim()
    published = mine.publish({"questions": 4}, {"dataset": "dataset/"})
    assert mine.completed() == published
    assert Result.decode((tmp_path / "a/b/result.json").read_bytes()) == published


def test_a_result_for_another_fingerprint_is_no_result(tmp_path: Path) -> None:
    mine = output(tmp_path)
    mine.publish({}, {})
    other = output(tmp_path, fingerprint="ab" * 32)
    assert other.completed() is None
    assert other.finish() is None


def test_half_a_result_is_no_result(tmp_path: Path) -> None:
    mine = output(tmp_path)
    mine.publish({"questions": 4}, {})
    data = (tmp_path / "result.json").read_bytes()
    (tmp_path / "result.json").write_bytes(data[: len(data) // 2])
    assert mine.completed() is None


def test_what_a_newer_attempt_has_claimed_an_older_one_cannot_publish(tmp_path: Path) -> None:
    old, new = output(tmp_path, 1), output(tmp_path, 2, "pod-2")
    old.claim()
    new.claim()
    with pytest.raises(Temporary, match="attempt 2") as caught:
        old.publish({}, {})
    assert caught.value.reason == "SupersededAttempt"
    assert not (tmp_path / "result.json").exists()
    new.publish({}, {})


def test_an_older_attempt_cannot_claim(tmp_path: Path) -> None:
    output(tmp_path, 5).claim()
    with pytest.raises(Temporary, match="attempt 5"):
        output(tmp_path, 4).claim()
    assert output(tmp_path).read_claim() == (5, "pod-1", "run-1")


def test_a_run_made_again_takes_over_whatever_attempt_the_old_one_had_reached(tmp_path: Path) -> None:
    old = output(tmp_path, 3)
    old.claim()
    again = output(tmp_path, 1, "pod-2", run="run-2")
    again.claim()
    with pytest.raises(Temporary, match=r"attempt 1 of another run \(run-2\)"):
        old.check_claim()
    again.publish({"questions": 1}, {})
    assert old.completed() is not None


def test_another_pod_of_the_same_attempt_takes_over(tmp_path: Path) -> None:
    first, second = output(tmp_path, 1, "pod-1"), output(tmp_path, 1, "pod-2")
    first.claim()
    second.claim()
    with pytest.raises(Temporary, match="pod-2"):
        first.publish({}, {})
    second.publish({}, {})


def test_the_first_result_stands(tmp_path: Path) -> None:
    mine = output(tmp_path)
    mine.publish({"questions": 1}, {})
    assert output(tmp_path, 2).publish({"questions": 2}, {}).numbers == {"questions": 1}


def test_an_unreadable_claim_does_not_block(tmp_path: Path) -> None:
    output(tmp_path, 3).claim()
    (tmp_path / "ledger/00000001.json").write_text("{")
    mine = output(tmp_path)
    mine.claim()
    assert mine.read_claim() == (1, "pod-1", "run-1")


def test_installing_moves_a_file_and_leaves_nothing_temporary(tmp_path: Path) -> None:
    source = tmp_path / "built"
    source.write_text("data")
    mine = output(tmp_path / "out")
    mine.claim()
    mine.install(source, "dataset/part-00000.parquet")
    assert not (tmp_path / "out/dataset").exists(), "before it is published nobody sees it"
    mine.publish({}, {"dataset": "dataset/"})
    found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    ledger = {"ledger/00000001.json", "ledger/00000002.json"}
    assert found == {"dataset/part-00000.parquet", "result.json"} | ledger
    assert not source.exists()
    assert (tmp_path / "out/dataset/part-00000.parquet").read_text() == "data"


def test_folders_and_files_are_writable_for_the_group(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        output(tmp_path / "a/b").publish({}, {})
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o070 == 0o070
    assert (tmp_path / "a/b/result.json").stat().st_mode & 0o060 == 0o060


def test_a_location_that_is_no_folder_here_is_named() -> None:
    with pytest.raises(ConfigFault, match="s3://bucket/x"):
        local_path("s3://bucket/x")
    assert local_path("file:///a%20b/c") == Path("/a b/c")


def test_a_full_disk_ends_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataFault, match="the disk is full") as caught:
        output(tmp_path).claim()
    assert caught.value.reason == "DiskFull"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def write_result(mine: Output) -> None:
    mine.put("scores.json", mine.who.encode())
    (mine.folder(".partial/work") / f"model-{mine.attempt}").mkdir()
    mine.write(f".partial/work/model-{mine.attempt}/weights", mine.who.encode())
    mine.publish({"by": mine.attempt}, {}, moves={"model": f".partial/work/model-{mine.attempt}"})


def whole(folder: Path) -> tuple[object, str, str]:
    """(who published, what the file says, what the folder says)."""
    found = output(folder).completed()
    return (
        found and found.numbers["by"],
        (folder / "scores.json").read_text(),
        (folder / "model/weights").read_text(),
    )


@pytest.mark.parametrize("published", [True, False])
def test_one_that_was_stopped_after_it_had_asked_publishes_nothing(
    published: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale, newer = output(tmp_path, 1, "pod-1"), output(tmp_path, 2, "pod-2")
    stale.claim()
    create, met = stale.create, []

    def stopped_just_before(path: str, data: bytes) -> bool:
        if not met:
            met.append(path)
            newer.claim()
            if published:
                write_result(newer)
        return create(path, data)

    monkeypatch.setattr(stale, "create", stopped_just_before)
    with pytest.raises(Temporary, match=r"attempt 2 .*pod-2"):
        write_result(stale)

    if not published:
        assert not (tmp_path / "result.json").exists()
        assert not (tmp_path / "model").exists()
        write_result(newer)
    assert whole(tmp_path) == (2, "pod-2", "pod-2")


STEPS = ["nothing", "the file", "the file and the folder"]


@pytest.mark.parametrize("done", range(3), ids=STEPS)
def test_a_result_that_was_won_is_put_in_place_by_whoever_comes_next(
    done: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = output(tmp_path, 1, "pod-1")
    first.claim()
    move, moved = first._move, []

    def killed_after(source: str, target: str) -> bool:
        if len(moved) == done:
            raise KeyboardInterrupt
        moved.append(target)
        return move(source, target)

    first.put("scores.json", b"pod-1")
    first.folder(".partial/work/model-1")
    (tmp_path / ".partial/work/model-1/weights").write_text("pod-1")
    monkeypatch.setattr(first, "_move", killed_after)
    if done == 2:
        monkeypatch.setattr(first, "write", killed_after)
    with pytest.raises(KeyboardInterrupt):
        first.publish({"by": 1}, {}, moves={"model": ".partial/work/model-1"})
    assert not (tmp_path / "result.json").exists()

    finished = output(tmp_path, 2, "pod-2").finish()

    assert finished is not None
    assert (finished.attempt, *whole(tmp_path)) == (1, 1, "pod-1", "pod-1")
    # Should the first wake up after all, it changes nothing.
    monkeypatch.undo()
    newest = first.fence.ledger.last()
    assert newest is not None
    assert first._finish(newest) == finished
    assert whole(tmp_path) == (1, "pod-1", "pod-1")


def test_a_result_whose_files_are_gone_is_computed_anew(tmp_path: Path) -> None:
    first = output(tmp_path, 1, "pod-1")
    first.claim()
    write_result(first)
    for name in ("result.json", "scores.json"):
        (tmp_path / name).unlink()

    second = output(tmp_path, 2, "pod-2")
    assert second.finish() is None
    second.claim()
    write_result(second)

    assert whole(tmp_path) == (2, "pod-2", "pod-2")


def test_what_an_attempt_before_had_prepared_goes_with_the_next_claim(tmp_path: Path) -> None:
    first = output(tmp_path, 1, "pod-1")
    first.claim()
    first.put("scores.json", b"1")

    output(tmp_path, 2, "pod-2").claim()

    assert not list((tmp_path / ".partial").iterdir())
