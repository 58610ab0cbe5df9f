"""Daemons that outlive the shell that started them, and are ended without ever touching a stranger.

A record file for each holds the process id together with the kernel's start time of that process (proc(5), field 22)
and the boot id: a process id that was handed out again, or a record from before a reboot, matches nothing.
Each daemon also carries MARKER in its environment, which its children inherit (containerd's shims do), so
that `down` finds what a crashed `up` left without a record.
"""

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import LocalKubeError
from .places import Cluster

MARKER = "DISTILLRUN_LOCALKUBE"
KILL = signal.SIGKILL
# On two cores with a pod that trains these would fall behind, and the cluster with them. Not containerd:
# its containers would inherit it.
_FIRST = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "network-policy",
)


@dataclass(frozen=True)
class Record:
    """One started process, as written to its record file. `started` is in clock ticks since boot."""

    name: str
    pid: int
    started: int
    boot: str
    command: list[str]

    def alive(self) -> bool:
        """Tell whether this very process still runs (a zombie does not)."""
        return self.boot == boot_id() and start_time(self.pid) == self.started


def boot_id() -> str:
    """Return the kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """Return when process `pid` started, in clock ticks since boot, or None if there is none or it is a zombie.

    A killed process whose first thread is a zombie while others are still ending is not gone: they hold its files, and
    its port with them."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name in parentheses may hold blanks
    if fields[0] == "X" or (fields[0] == "Z" and not _ending(pid)):
        return None
    return int(fields[19])


def _ending(pid: int) -> bool:
    """Whether threads besides the first one are left."""
    try:
        return any(thread.name != str(pid) for thread in Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return False


def start(
    cluster: Cluster, name: str, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None
) -> Record:
    """Start `command` in a session of its own, its output appended to the cluster's log of that name, and record it."""
    words = [str(word) for word in command]
    log = cluster.logs / f"{name}.log"
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        words[0],
        words,
        {**os.environ, **(env or {}), MARKER: str(cluster.state)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    started = start_time(pid)
    if started is None:
        os.waitpid(pid, 0)
        raise LocalKubeError(f"{name} ended as soon as it was started; its log is {log}")
    if name in _FIRST:
        _put_first(pid)
    record = Record(name, pid, started, boot_id(), words)
    temporary = cluster.processes / f".{name}"
    temporary.write_text(json.dumps(asdict(record), indent=1))
    temporary.rename(cluster.processes / f"{name}.json")
    return record


def _put_first(pid: int) -> None:
    """Let a process go before ordinary ones, where that is allowed."""
    try:
        os.setpriority(os.PRIO_PROCESS, pid, -10)
        group = Path(f"/proc/{pid}/autogroup")  # where the kernel groups by session, this counts instead
        if group.exists():
            group.write_text("-10")
    except OSError:
        pass


def records(cluster: Cluster) -> list[Record]:
    """Return the records of all processes that were started for `cluster`, dead ones too, by name."""
    found = []
    for path in sorted(cluster.processes.glob("*.json")):
        try:
            found.append(Record(**json.loads(path.read_text())))
        except (ValueError, TypeError):
            path.unlink()  # cut off by a crash: what it was about is still found by its marker
    return found


def stop(cluster: Cluster, names: Sequence[str], *, grace: float = 5.0, first: signal.Signals = signal.SIGTERM) -> None:
    """End the named processes together: `first`, then after `grace` seconds SIGKILL; forget their records."""
    chosen = [record for record in records(cluster) if record.name in names]
    _end([record.pid for record in chosen if record.alive()], grace, first)
    for record in chosen:
        (cluster.processes / f"{record.name}.json").unlink(missing_ok=True)


def marked(cluster: Cluster) -> Iterator[int]:
    """Yield the ids of all running processes that were started for `cluster`, with or without a record."""
    wanted = f"{MARKER}={cluster.state}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue  # gone meanwhile, or not ours to read
        if wanted in environment.split(b"\0") and start_time(int(entry.name)) is not None:
            yield int(entry.name)


def kill_marked(cluster: Cluster) -> None:
    """Kill every process that carries the cluster's marker; the last step of `down` and the first of a recovery.

    Nothing of what they hold outlives the cluster, so nobody waits for them to end tidily.
    """
    _end(list(marked(cluster)), 5.0, signal.SIGKILL)


def _end(pids: Sequence[int], grace: float, first: signal.Signals) -> None:
    """Signal `pids`, wait until all are gone, and kill what is still there after `grace` seconds."""
    started = {pid: start_time(pid) for pid in pids}
    for number in (first, signal.SIGKILL):
        for pid in pids:
            if started[pid] is not None and start_time(pid) == started[pid]:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
        deadline = time.monotonic() + grace
        while time.monotonic() < deadline:
            over = not any(start_time(pid) is not None and start_time(pid) == started[pid] for pid in pids)
            _reap(pids)
            if over:
                return
            time.sleep(0.02)


def _reap(pids: Sequence[int]) -> None:
    """Collect those of `pids` that are this process' own children, so that no zombie stays."""
    for pid in pids:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass
