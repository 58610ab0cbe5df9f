"""Daemons are ended without ever touching a stranger."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from hack.localkube import processes
from hack.localkube.errors import LocalKubeError
from hack.localkube.places import Cluster

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    made = Cluster("test", tmp_path / "state")
    made.make_folders()
    return made


def test_a_started_process_is_known_and_stopping_it_ends_it(cluster: Cluster) -> None:
    record = processes.start(cluster, "sleeper", SLEEP)
    assert [r.name for r in processes.records(cluster) if r.alive()] == ["sleeper"]
    processes.stop(cluster, ["sleeper"])
    assert not record.alive()
    assert processes.records(cluster) == []


def test_a_process_id_that_was_handed_out_again_belongs_to_a_stranger_and_is_left_alone(cluster: Cluster) -> None:
    with subprocess.Popen(SLEEP) as stranger:
        try:
            started = processes.start_time(stranger.pid)
            assert started is not None
            stale = processes.Record("etcd", stranger.pid, started - 1, processes.boot_id(), ["etcd"])
            (cluster.processes / "etcd.json").write_text(json.dumps(asdict(stale)))
            assert not stale.alive()
            processes.stop(cluster, ["etcd"])
            processes.kill_marked(cluster)
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_record_from_before_a_reboot_matches_no_process(cluster: Cluster) -> None:
    record = processes.start(cluster, "sleeper", SLEEP)
    assert not replace(record, boot="another boot").alive()
    processes.kill_marked(cluster)


def test_a_process_whose_record_was_lost_is_found_by_its_marker_and_so_are_its_children(cluster: Cluster) -> None:
    script = f"import subprocess, sys; subprocess.run({SLEEP!r})"
    record = processes.start(cluster, "parent", [sys.executable, "-c", script])
    (cluster.processes / "parent.json").unlink()
    while len(list(processes.marked(cluster))) < 2:
        assert record.alive()
    found = list(processes.marked(cluster))
    processes.kill_marked(cluster)
    assert record.pid in found
    assert list(processes.marked(cluster)) == []


def test_a_process_that_ignores_the_polite_signal_is_killed(cluster: Cluster) -> None:
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    record = processes.start(cluster, "deaf", [sys.executable, "-c", script])
    while "deaf" not in (cluster.logs / "deaf.log").read_text():
        assert record.alive()
    processes.stop(cluster, ["deaf"], grace=0.2)
    assert not record.alive()


def test_a_record_cut_off_by_a_crash_is_dropped(cluster: Cluster) -> None:
    (cluster.processes / "etcd.json").write_text('{"name": "et')
    assert processes.records(cluster) == []


def test_a_zombie_counts_as_gone(cluster: Cluster) -> None:
    record = processes.start(cluster, "sleeper", SLEEP)
    os.kill(record.pid, signal.SIGKILL)
    os.waitid(os.P_PID, record.pid, os.WEXITED | os.WNOWAIT)
    assert not record.alive()
    processes.stop(cluster, ["sleeper"])


def test_a_process_is_not_gone_before_its_last_thread_is(cluster: Cluster) -> None:
    """A killed API server's first thread may be a zombie while others still hold the port."""
    code = "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(60,)).start(); "
    record = processes.start(cluster, "threads", [sys.executable, "-c", code + "ctypes.CDLL(None).syscall(60, 0)"])

    def first_thread() -> str:
        return Path(f"/proc/{record.pid}/stat").read_text().rpartition(")")[2].split()[0]

    while first_thread() != "Z":
        time.sleep(0.02)
    assert record.alive()
    processes.stop(cluster, ["threads"], first=processes.KILL)
    assert not record.alive()


def test_a_program_that_is_missing_is_named(cluster: Cluster) -> None:
    with pytest.raises((LocalKubeError, FileNotFoundError), match="no-such-program"):
        processes.start(cluster, "gone", ["/no-such-program"])
