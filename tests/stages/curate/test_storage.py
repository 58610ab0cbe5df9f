"""Where the output lies: a disk that is full, an object store, a data set and questions behind s3://."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from distillstages.common.artifacts import Output
from distillstages.common.exit import Temporary
from distillstages.curate import recorded
from distillstages.curate.journal import Journal
from distillstages.curate.records import Answer
from tests.stages.curate.conftest import Stage, additions
from tests.stages.curate.fake_teacher import FakeTeacher, Raw, add, completion, solve
from tests.stages.curate.test_killed import until


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"this machine does not let us mount a tmpfs (needs root): {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def wordy(question: str, nth: int) -> Raw:
    """A right answer after 20 KiB of thinking."""
    return completion(f"<think>\n{secrets.token_hex(10_000)}\n</think>\n\n\\boxed{{{add(question)}}}")


def test_a_full_disk_ends_in_a_sentence_and_what_was_answered_is_not_asked_again(
    make_stage: Any, small_disk: Path
) -> None:
    with FakeTeacher(wordy) as teacher:
        stage = make_stage(teacher.url, additions(60), teacher={"maxConcurrency": 4})
        stage.output.parent.mkdir(parents=True)
        (small_disk / "out").mkdir()
        stage.output.symlink_to(small_disk / "out")
        finished = stage.run()
        assert (finished.code, finished.message["reason"]) == (65, "DiskFull"), finished.log
        assert "the disk is full" in finished.message["message"]
        recorded = sum(line["kind"] == "answer" for line in stage.journal())
        assert 10 < recorded < 60
        in_vain = teacher.total - recorded
        assert in_vain <= 4
        # Someone enlarges the claim.
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        stage.attempt = 2
        finished = stage.run()
        assert finished.code == 0, finished.log
        assert teacher.total == 60 + in_vain
    assert finished.numbers["accepted"] == 60


def test_a_folder_that_is_not_writable_is_named(make_stage: Any, small_disk: Path) -> None:
    with FakeTeacher() as teacher:
        stage = make_stage(teacher.url)
        stage.output.parent.mkdir(parents=True)
        (small_disk / "out").mkdir()
        stage.output.symlink_to(small_disk / "out")
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        finished = stage.run()
        assert teacher.total == 0
    assert (finished.code, finished.message["reason"]) == (78, "OutputUnwritable")
    assert "Read-only file system" in finished.message["message"]


@dataclass
class ObjectStore:
    """A real S3 server (versitygw) on this machine, over a folder."""

    folder: Path
    environment: dict[str, str]


@pytest.fixture
def object_store(tmp_path: Path) -> Iterator[ObjectStore]:
    cache = Path(os.environ.get("DISTILLRUN_CACHE") or Path.home() / ".cache/distillrun")
    program = shutil.which("versitygw") or cache / "bin/versitygw"
    if not Path(program).exists():
        pytest.skip("versitygw, the S3 server of these tests, is not built: python -m hack.localkube build s3")
    folder = tmp_path / "store"
    (folder / "bucket").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = secrets.token_hex(16)
    server = subprocess.Popen(
        [str(program), "--port", f"127.0.0.1:{port}", "--access", "tester", "--secret", key, "posix", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        while True:
            assert server.poll() is None, "versitygw has ended"
            try:
                urllib.request.urlopen(endpoint, timeout=5)
            except urllib.error.HTTPError:
                break  # it refuses us, so it is there
            except OSError:
                time.sleep(0.05)
        yield ObjectStore(
            folder / "bucket",
            {
                "AWS_ACCESS_KEY_ID": "tester",
                "AWS_SECRET_ACCESS_KEY": key,
                "AWS_ENDPOINT_URL": endpoint,
                "AWS_DEFAULT_REGION": "us-east-1",
            },
        )
    finally:
        server.kill()
        server.wait()


class S3Stage(Stage):
    """A stage whose output lies in the object store."""

    bucket: Path

    @property
    def output(self) -> Path:
        """Where the object store keeps the output folder."""
        return self.bucket / "team/curate" / ("9c" * 32)

    @property
    def config(self) -> dict[str, Any]:
        """With an s3:// output."""
        return {**super().config, "output": "s3://bucket/team/curate/" + "9c" * 32}


def test_curation_from_and_to_an_object_store_survives_a_kill(make_stage: Any, object_store: ObjectStore) -> None:
    with FakeTeacher(delay=0.05) as teacher:
        source = [{"name": "pool", "uri": "s3://bucket/questions.jsonl"}]
        stage = make_stage(teacher.url, additions(80), teacher={"maxConcurrency": 4}, sources=source)
        shutil.copy(stage.folder / "questions.jsonl", object_store.folder / "questions.jsonl")
        stage.__class__ = S3Stage
        stage.bucket = object_store.folder
        stage.environment.update(object_store.environment)
        stage.start()
        until(lambda: teacher.total >= 20, stage)
        stage.kill()
        stage.attempt = 2
        finished = stage.run()
        assert finished.code == 0, finished.log
        assert finished.message["artifact"] == "s3://bucket/team/curate/" + "9c" * 32 + "/"
        assert finished.numbers["accepted"] == 80
        assert teacher.total - 80 <= 4
    assert (
        pq.read_table(object_store.folder / "team/curate" / ("9c" * 32) / "dataset/part-00000.parquet").num_rows == 80
    )
    assert object_store.environment["AWS_SECRET_ACCESS_KEY"] not in finished.log


def test_a_source_that_is_not_in_the_object_store_is_named(make_stage: Any, object_store: ObjectStore) -> None:
    with FakeTeacher(solve) as teacher:
        stage = make_stage(teacher.url, sources=[{"name": "pool", "uri": "s3://bucket/nothing.jsonl"}])
        stage.environment.update(object_store.environment)
        finished = stage.run()
    assert (finished.code, finished.message["reason"]) == (65, "SourceNotFound")
    assert "s3://bucket/nothing.jsonl" in finished.message["message"]


@pytest.fixture
def folder_in_store(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> str:
    """A URI in it, for this process."""
    import s3fs

    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    return "s3://bucket/team/curate/x/"


def attempt_at(uri: str, attempt: int) -> Output:
    return Output(uri, stage="curate", fingerprint="9c" * 32, attempt=attempt, who=f"pod-{attempt}")


def test_in_an_object_store_too_one_that_was_stopped_after_it_had_asked_publishes_nothing(
    folder_in_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(output: Output) -> None:
        built = tmp_path / f"built-{output.attempt}"
        built.write_text(f"of attempt {output.attempt}")
        output.install(built, "dataset/part-00000.parquet")
        output.put("sample.md", f"of attempt {output.attempt}".encode())

    stale, newer = attempt_at(folder_in_store, 1), attempt_at(folder_in_store, 2)
    stale.claim()
    prepare(stale)
    create, met = stale.create, []

    def stopped_just_before(path: str, data: bytes) -> bool:
        if not met:
            met.append(path)
            newer.claim()
            prepare(newer)
            newer.publish({"by": 2}, {})
        return create(path, data)

    monkeypatch.setattr(stale, "create", stopped_just_before)
    with pytest.raises(Temporary, match="attempt 2"):
        stale.publish({"by": 1}, {})

    found = attempt_at(folder_in_store, 3)
    result = found.completed()
    assert result is not None
    assert result.numbers == {"by": 2}
    assert found.read("dataset/part-00000.parquet") == found.read("sample.md") == b"of attempt 2"
    assert found.folders(".partial") == [], "neither attempt's preparations are left"


def test_of_two_who_create_the_same_object_the_store_tells_one_no(folder_in_store: str) -> None:
    first, second = attempt_at(folder_in_store, 1), attempt_at(folder_in_store, 2)

    assert first.create("ledger/00000001.json", b"1")
    assert not second.create("ledger/00000001.json", b"2")
    assert second.read("ledger/00000001.json") == b"1"


def test_a_store_without_conditional_writes_is_asked_first(
    folder_in_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = attempt_at(folder_in_store, 1)
    put = output._fs.pipe_file

    def none(path: str, data: bytes, mode: str = "overwrite") -> None:
        if mode == "create":
            raise OSError(errno.ENOSYS, "A header you provided implies functionality that is not implemented.")
        put(path, data)

    monkeypatch.setattr(output._fs, "pipe_file", none)
    assert output.create("ledger/00000001.json", b"1")
    assert not output.create("ledger/00000001.json", b"2")
    assert output.read("ledger/00000001.json") == b"1"


def test_in_an_object_store_too_answers_of_other_curations_are_taken_over(folder_in_store: str) -> None:
    place = folder_in_store.removesuffix("/x/")
    answers = [Answer(f"q{n}", 0, f"{n}", request=f"{n:032x}") for n in range(5)]
    wanted = {(f"q{n}", 0): f"{n:032x}" for n in range(6)}

    def curation(letter: str) -> Output:
        return Output(f"{place}/{letter * 64}/", stage="curate", fingerprint=letter * 64, attempt=1)

    async def record(letter: str, asking: str, some: list[Answer]) -> None:
        journal = await Journal.open(curation(letter), asking=[asking])
        for answer in some:
            await journal.append(answer)
        await journal.judge(("q4", 0), None, "equal", "judge")
        await journal.close()

    async def take_over() -> tuple[dict[str, str], tuple[str | None, str] | None]:
        await record("a", "otherwise", answers)
        await record("b", "alike", answers[2:])
        journal = await Journal.open(curation("c"), asking=["alike"])
        await recorded.take_over(
            journal, curation("c"), "alike", wanted, judging=lambda key: "judge", stopping=asyncio.Event()
        )
        await journal.close()
        again = await Journal.open(curation("c"), asking=["alike"])
        found = {key: again.read((key, 0)).content for key, _ in again.entries}
        return found, again.entries["q4", 0].verdict

    found, verdict = asyncio.run(take_over())
    assert found == {"q2": "2", "q3": "3", "q4": "4"}
    assert verdict == (None, "equal")
