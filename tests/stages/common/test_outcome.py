"""What ends how: the table of exit codes, row by row."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from distillstages.common.cgroup import Memory, size
from distillstages.common.outcome import Facts, judge
from distillstages.common.state import End
from distillstages.common.termination import Termination

CALM = Memory(kills=2, peak=1 << 30, limit=2 << 30)
KILLED = Memory(kills=3, peak=2 << 30, limit=2 << 30)
OK = End(0, Termination.succeeded("file:///a/", {"steps": 3}))


def said(code: int, reason: str) -> End:
    return End(code, Termination("Failed", reason, "a sentence"))


@pytest.mark.parametrize(
    ("facts", "code", "reason"),
    [
        ({"status": 0}, 0, None),
        ({"status": 0, "ends": [OK]}, 0, None),
        # torchrun exits 1 whatever its workers said
        ({"status": 1, "ends": [said(65, "SequenceTooLong"), said(76, "PeerLost")]}, 65, "SequenceTooLong"),
        ({"status": 1, "ends": [said(75, "TeacherUnavailable")]}, 75, "TeacherUnavailable"),
        ({"status": 1, "ends": [said(76, "PeerLost")]}, 76, "PeerLost"),
        # a rank that failed counts even if the launcher calls it a success
        ({"status": 0, "ends": [said(70, "Fault")]}, 70, "Fault"),
        # and a launcher that failed after its ranks had succeeded
        ({"status": 1, "ends": [OK]}, 70, "Fault"),
        ({"status": 1}, 70, "Fault"),
        ({"status": 139}, 70, "Fault"),
        ({"status": 78}, 78, "Fault"),
        ({"status": -signal.SIGSEGV}, 70, "Fault"),
        ({"status": -signal.SIGKILL}, 70, "Fault"),
        ({"status": -signal.SIGKILL, "after": KILLED}, 137, "OutOfMemory"),
        ({"status": 1, "after": KILLED, "ends": [said(70, "Fault")]}, 137, "OutOfMemory"),
        ({"status": 1, "after": KILLED, "ends": [said(76, "PeerLost")]}, 137, "OutOfMemory"),
        # a checking process was killed, the stage went on and found bad data
        ({"status": 65, "after": KILLED, "ends": [said(65, "NothingAccepted")]}, 65, "NothingAccepted"),
        ({"status": 0, "after": KILLED, "ends": [OK]}, 0, None),
        (
            {"status": -signal.SIGKILL, "before": Memory(None, None, None), "after": Memory(None, None, None)},
            70,
            "Fault",
        ),
        ({"status": -signal.SIGTERM, "asked_to_stop": signal.SIGTERM}, 143, "Terminated"),
        ({"status": 1, "asked_to_stop": signal.SIGTERM}, 143, "Terminated"),
        ({"status": 1, "asked_to_stop": signal.SIGTERM, "ends": [said(76, "PeerLost")]}, 143, "Terminated"),
        ({"status": 143, "asked_to_stop": signal.SIGTERM, "ends": [said(143, "Terminated")]}, 143, "Terminated"),
        ({"status": 1, "asked_to_stop": signal.SIGTERM, "ends": [said(65, "DiskFull")]}, 65, "DiskFull"),
        ({"status": 0, "asked_to_stop": signal.SIGTERM, "ends": [OK]}, 0, None),
        ({"status": -signal.SIGTERM}, 70, "Fault"),
        ({"status": -signal.SIGTERM, "stalled": "no progress for 600 s"}, 70, "Stalled"),
    ],
)
def test_each_end_has_its_code_and_reason(facts: dict[str, Any], code: int, reason: str | None) -> None:
    found, message = judge(
        Facts(**{"stage": "train", "ends": [], "before": CALM, "after": CALM, "tail": "log", **facts})
    )
    assert (found, message.reason) == (code, reason)
    assert message.outcome == ("Succeeded" if code == 0 else "Failed")


def test_a_memory_kill_tells_peak_and_limit() -> None:
    _, message = judge(Facts("train", -9, [], CALM, KILLED))
    assert message.message is not None
    assert "peak 2.00 GiB of a limit of 2.00 GiB" in message.message


def test_sizes_are_written_as_people_write_them() -> None:
    assert [size(n) for n in (None, 512, 3 << 20, 1 << 40)] == ["unknown", "512 B", "3.00 MiB", "1.00 TiB"]
