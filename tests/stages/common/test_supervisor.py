"""The supervisor with real child processes: signals, exit codes, orphans, memory kills, messages, stack dumps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[3]

# The parent: supervises `python worker.py`, with options given as JSON.
PARENT = """
import json, sys
from pathlib import Path
from distillstages.common.supervisor import Options, supervise
options = json.loads(sys.argv[1])
for name in ("termination_path", "cgroup_root", "membership"):
    if name in options:
        options[name] = Path(options[name])
sys.exit(supervise([sys.executable, sys.argv[2]], Options(stage="curate", **options)))
"""

PRELUDE = """
import os, signal, subprocess, sys, time
from pathlib import Path
from distillstages.common.exit import *
from distillstages.common import state, worker
from distillstages.common.termination import Termination
here = Path(__file__).parent
def say(name): (here / name).write_text(str(os.getpid()))
"""


@dataclass
class Supervised:
    """A supervisor with its worker."""

    process: subprocess.Popen[str]
    folder: Path

    def wait_for(self, name: str) -> int:
        """Until the worker has written a file of that name; returns the process id in it."""
        path = self.folder / name
        until(lambda: path.exists() and path.read_text() != "", self.process)
        return int(path.read_text())

    def end(self) -> tuple[int, dict[str, Any], str]:
        """(exit code, termination message, log)."""
        _, log = self.process.communicate(timeout=120)
        return self.process.returncode, json.loads((self.folder / "termination").read_text()), log


def until(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    for _ in range(60_000):
        if condition():
            return
        if process is not None and process.poll() is not None:
            pytest.fail(f"the supervisor has ended: {process.communicate()[1]}")
        time.sleep(0.002)
    pytest.fail("the condition never held")


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    started: list[Supervised] = []

    def start(
        worker_code: str, *, prefix: list[str] | None = None, env: dict[str, str] | None = None, **options: Any
    ) -> Any:
        (tmp_path / "parent.py").write_text(PARENT)
        (tmp_path / "worker.py").write_text(PRELUDE + textwrap.dedent(worker_code))
        options = {"port": None, "termination_path": str(tmp_path / "termination"), **options}
        command = [
            *(prefix or []),
            sys.executable,
            str(tmp_path / "parent.py"),
            json.dumps(options),
            str(tmp_path / "worker.py"),
        ]
        process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY / "images"), **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(Supervised(process, tmp_path))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.communicate()


def test_sigterm_reaches_the_worker_and_its_own_end_counts(supervise: Any) -> None:
    running = supervise("""
        def on_term(*_):
            say("saved")
            worker.leave(143, Termination("Failed", "Terminated", "saved at step 7"))
        signal.signal(signal.SIGTERM, on_term)
        say("ready")
        while True: time.sleep(1)
    """)
    running.wait_for("ready")
    running.process.send_signal(signal.SIGTERM)
    code, message, _ = running.end()
    assert (code, message["reason"], message["message"]) == (143, "Terminated", "saved at step 7")
    assert (running.folder / "saved").exists()


def test_a_worker_that_knows_no_sigterm_ends_as_terminated(supervise: Any) -> None:
    running = supervise("say('ready')\nwhile True: time.sleep(1)")
    running.wait_for("ready")
    running.process.send_signal(signal.SIGTERM)
    code, message, _ = running.end()
    assert (code, message["outcome"], message["reason"]) == (143, "Failed", "Terminated")


def test_a_message_is_there_before_the_kubelet_loses_patience(supervise: Any) -> None:
    running = supervise("""
        signal.signal(signal.SIGTERM, lambda *_: say("ignored"))
        say("ready")
        while True: time.sleep(1)
    """)
    child = running.wait_for("ready")
    running.process.send_signal(signal.SIGTERM)
    running.wait_for("ignored")
    running.process.kill()
    os.kill(child, signal.SIGKILL)
    _, message, _ = running.end()
    assert message["reason"] == "Terminated"
    assert "did not end in time" in message["message"]


@pytest.mark.parametrize(
    ("worker_code", "code", "reason"),
    [
        ("sys.exit(0)", 0, None),
        ("sys.exit(1)", 70, "Fault"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 70, "Fault"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 70, "Fault"),
        ("sys.exit(75)", 75, "Fault"),
        ("raise RuntimeError('boom')", 70, "Fault"),
    ],
)
def test_exit_codes_become_those_of_the_contract(
    supervise: Any, worker_code: str, code: int, reason: str | None
) -> None:
    ended, message, _ = supervise(worker_code).end()
    assert (ended, message["reason"]) == (code, reason)
    assert message["outcome"] == ("Succeeded" if code == 0 else "Failed")


def test_a_worker_that_dies_without_a_word_leaves_the_end_of_its_log(supervise: Any) -> None:
    _, message, log = supervise("print('loading shards', flush=True)\nraise RuntimeError('boom')").end()
    assert "exit code 1 and left no message" in message["message"]
    assert "RuntimeError: boom" in message["log"]
    assert "loading shards" in message["log"]
    assert "RuntimeError: boom" in log


def test_secrets_are_not_in_the_message_nor_in_the_log(supervise: Any) -> None:
    worker_code = "print('using', os.environ['SOME_API_KEY'])\nraise RuntimeError(os.environ['SOME_API_KEY'])"
    running = supervise(worker_code, env={"SOME_API_KEY": "sk-abc-987654"})
    out, log = running.process.communicate(timeout=120)
    message = (running.folder / "termination").read_text()
    assert "sk-abc-987654" not in message + out + log
    assert "RuntimeError: ***" in message


def test_the_workers_own_message_is_passed_on(supervise: Any) -> None:
    code, message, _ = supervise("""
        worker.leave(65, Termination("Failed", "RowBroken", "pool.jsonl row 3: not JSON", artifact="file:///a/"))
    """).end()
    assert code == 65
    assert (message["reason"], message["message"], message["log"]) == ("RowBroken", "pool.jsonl row 3: not JSON", None)


def test_of_several_ranks_the_cause_is_reported_and_not_the_rank_that_lost_a_peer(supervise: Any) -> None:
    code, message, _ = supervise("""
        for rank, code, reason in (("0", 76, "PeerLost"), ("1", 65, "SequenceTooLong"), ("2", 70, "Fault")):
            os.environ["RANK"] = rank
            state.leave_end(code, Termination("Failed", reason, reason))
        sys.exit(1)  # torchrun exits 1 whatever its workers said
    """).end()
    assert (code, message["reason"]) == (65, "SequenceTooLong")


def test_orphans_are_reaped_and_leftovers_of_the_worker_are_ended(supervise: Any) -> None:
    running = supervise("""
        # an orphan that ends by itself, and a leftover that does not
        subprocess.Popen(["sh", "-c", "sleep 0.1 & echo $! > " + str(here / "orphan")])
        left = subprocess.Popen(["sleep", "1000"])
        (here / "left").write_text(str(left.pid))
        # and one that has left the worker's process group and wants to be killed
        stubborn = subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"], start_new_session=True)
        (here / "stubborn").write_text(str(stubborn.pid))
        time.sleep(0.3)
    """)
    code, _, _ = running.end()
    assert code == 0
    for name in ("orphan", "left", "stubborn"):
        assert not Path(f"/proc/{(running.folder / name).read_text().strip()}").exists(), name


def test_as_pid_1_of_a_container_it_forwards_signals_and_leaves_no_zombies(supervise: Any) -> None:
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine does not let us make a PID namespace (unshare --pid): needs root")
    running = supervise(
        """
        subprocess.Popen(["sh", "-c", "sleep 0.05 & exit 0"]).wait()
        time.sleep(0.3)
        states = [p.read_text().rpartition(")")[2].split()[0] for p in Path("/proc").glob("[0-9]*/stat")]
        (here / "states").write_text(" ".join(states))
        (here / "parent").write_text(str(os.getppid()))
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        say("ready")
        while True: time.sleep(1)
        """,
        prefix=unshare,
    )
    running.wait_for("ready")
    assert (running.folder / "parent").read_text() == "1"
    assert "Z" not in (running.folder / "states").read_text()
    (supervisor,) = (
        int(c) for c in Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
    )
    os.kill(supervisor, signal.SIGTERM)
    code, message, _ = running.end()
    assert (code, message["reason"]) == (143, "Terminated")


@contextmanager
def memory_cgroup(limit: int) -> Iterator[Path | None]:
    """A memory cgroup of our own (v1 or v2) with a limit, or None where none can be made."""
    v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    folder = (v1 if v1.is_dir() else v2) / f"distillrun-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / ("memory.limit_in_bytes" if v1.is_dir() else "memory.max")).write_text(str(limit))
    except OSError:
        if folder.is_dir():
            folder.rmdir()
        yield None
        return
    try:
        yield folder
    finally:
        for _ in range(200):
            try:
                folder.rmdir()
                break
            except OSError:
                time.sleep(0.05)


def test_a_kill_by_the_kernel_for_memory_is_told_with_peak_and_limit(supervise: Any) -> None:
    with memory_cgroup(256 << 20) as folder:
        if folder is None:
            pytest.skip("this machine does not let us make a memory cgroup; the recorded counters are tested below")
        join = ["sh", "-c", f'echo $$ > {folder}/cgroup.procs; exec "$@"', "sh"]
        running = supervise("x = bytearray(2 << 30)\nfor i in range(0, len(x), 4096): x[i] = 1", prefix=join)
        code, message, _ = running.end()
    assert (code, message["reason"]) == (137, "OutOfMemory")
    assert "of a limit of 256.00 MiB" in message["message"]


# /sys/fs/cgroup as it looks inside a container, before and after a kill: recorded from kernels with v1 and v2.
RECORDED = {
    "v1": (
        "9:memory:/kubepods/pod1/c1\n",
        "memory/memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n",
        {"memory/memory.max_usage_in_bytes": "1073741824\n", "memory/memory.limit_in_bytes": "2147483648\n"},
    ),
    "v2": (
        "0::/\n",
        "memory.events",
        "low 0\nhigh 0\nmax 44\noom 1\noom_kill {}\noom_group_kill 0\n",
        {"memory.peak": "1073741824\n", "memory.max": "2147483648\n"},
    ),
}


def record(root: Path, version: str, kills: int) -> dict[str, str]:
    membership, events, text, rest = RECORDED[version]
    for name, content in {events: text.format(kills), **rest}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    (root / "membership").write_text(membership)
    return {"cgroup_root": str(root), "membership": str(root / "membership")}


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_recorded_counters_that_rose_mean_out_of_memory(supervise: Any, tmp_path: Path, version: str) -> None:
    root = tmp_path / "cgroup"
    options = record(root, version, 3)
    events = root / RECORDED[version][1]
    running = supervise(
        f"p = Path({str(events)!r}); p.write_text(p.read_text().replace('oom_kill 3', 'oom_kill 4'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)",
        **options,
    )
    code, message, _ = running.end()
    assert (code, message["reason"]) == (137, "OutOfMemory")
    assert "peak 1.00 GiB of a limit of 2.00 GiB" in message["message"]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_kills_of_an_earlier_time_are_not_ours(supervise: Any, tmp_path: Path, version: str) -> None:
    running = supervise("os.kill(os.getpid(), signal.SIGKILL)", **record(tmp_path / "cgroup", version, 3))
    code, message, _ = running.end()
    assert (code, message["reason"]) == (70, "Fault")
    assert "someone else than the kernel's memory killer" in message["message"]


def test_sigusr1_dumps_the_stack_of_every_thread_of_the_worker_also_when_it_ends_at_once(supervise: Any) -> None:
    running = supervise("""
        worker.prepare("curate")
        def stuck_in_a_collective(): time.sleep(1000)
        import threading
        threading.Thread(target=stuck_in_a_collective, daemon=True).start()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        say("ready")
        dumped = next(state.folder().glob("stacks-*"))
        while "worker.py" not in dumped.read_text().rpartition("Current thread")[2]: time.sleep(0.01)
        sys.exit(1)
    """)
    running.wait_for("ready")
    running.process.send_signal(signal.SIGUSR1)
    _, _, log = running.end()
    assert "stuck_in_a_collective" in log


def test_a_stall_dumps_the_stacks_and_ends_the_stage(supervise: Any) -> None:
    running = supervise(
        """
        metrics = worker.prepare("train")
        metrics.set("progress_done", 1); metrics.flush()
        def stuck_in_a_collective():
            while True: time.sleep(1)
        stuck_in_a_collective()
        """,
        stall_timeout_seconds=6,
    )
    code, message, log = running.end()
    assert (code, message["reason"]) == (70, "Stalled")
    assert "no progress for 6 s" in message["message"]
    assert "stuck_in_a_collective" in log


def test_a_worker_that_cannot_be_started_is_a_fault_with_a_sentence(tmp_path: Path) -> None:
    code = (
        "import sys; from distillstages.common.supervisor import *; "
        "sys.exit(supervise(['/no/such'], Options('serve', port=None)))"
    )
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "images"), "DISTILLRUN_TERMINATION_LOG": str(tmp_path / "t")}
    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert ended.returncode == 70
    assert "'/no/such' cannot be started: No such file" in json.loads((tmp_path / "t").read_text())["message"]


def test_the_progress_port_answers_from_start_to_end(supervise: Any) -> None:
    running = supervise(
        """
        say("started")  # nothing imported, nothing said yet
        while not (here / "go").exists(): time.sleep(0.02)
        metrics = worker.prepare("curate"); metrics.set("progress_done", 5); metrics.flush()
        say("said")
        while not (here / "end").exists(): time.sleep(0.02)
        worker.leave(0, Termination.succeeded("file:///a/", {"questions": 5}))
        """,
        port=0,
    )
    child = running.wait_for("started")
    variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
    folder = next(v.partition(b"=")[2].decode() for v in variables if v.startswith(b"DISTILLRUN_STATE_DIR="))
    port = (Path(folder) / "port").read_text()

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            text: str = response.read().decode()
            return text

    assert get("/healthz") == "ok\n"
    (running.folder / "go").write_text("1")
    running.wait_for("said")
    assert "distillrun_stage_progress_done 5" in get("/metrics")
    (running.folder / "end").write_text("1")
    code, message, _ = running.end()
    assert (code, message["numbers"]) == (0, {"questions": 5})
    assert not Path(folder).exists()
