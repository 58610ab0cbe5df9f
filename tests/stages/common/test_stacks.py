"""Which rank seems to be the cause of a stall, told from every rank's stacks."""

from __future__ import annotations

import pytest

from distillstages.common import stacks

SITE = "/opt/venv/lib/python3.11/site-packages"
BACKGROUND = f"""Thread 0x00007f1 (most recent call first):
  File "{SITE}/torch/distributed/heartbeat.py", line 9 in watch
  File "/usr/lib/python3.11/threading.py", line 982 in run

"""


def dump(*frames: str) -> str:
    """A dump whose main thread is in these frames ("file:line function"), innermost first."""
    lines = [BACKGROUND + "Current thread 0x00007f2 (most recent call first):"]
    for frame in frames:
        place, function = frame.split()
        file, line = place.split(":")
        lines.append(f'  File "{file}", line {line} in {function}')
    return "\n".join(lines) + "\n"


WAITS = dump(f"{SITE}/torch/distributed/distributed_c10d.py:3174 all_reduce", "/opt/distillrun/worker.py:9 train")
SLEEPS = dump("/opt/distillrun/data.py:12 read_row", "/opt/distillrun/worker.py:9 train")
COMPUTES = dump(f"{SITE}/torch/nn/functional.py:7 linear", "/opt/distillrun/worker.py:9 train")


@pytest.mark.parametrize(
    ("dumps", "words"),
    [
        ({"0": WAITS, "1": SLEEPS}, "rank 0 waits for the others, but rank 1 is in read_row (distillrun/data.py:12)"),
        (
            {"0": SLEEPS, "1": WAITS, "2": WAITS},
            "each of ranks 1, 2 waits for the others, but rank 0 is in read_row (distillrun/data.py:12)",
        ),
        ({"0": WAITS, "1": ""}, "rank 1 left no stacks (stopped, its node away, or stuck in the kernel)"),
        ({"0": WAITS}, "rank 1 left no stacks (stopped, its node away, or stuck in the kernel)"),
        (
            {"0": COMPUTES, "1": COMPUTES, "2": SLEEPS},
            "most ranks are in linear (nn/functional.py:7), but rank 2 in read_row (distillrun/data.py:12)",
        ),
        ({"0": WAITS, "1": WAITS}, "every rank is in all_reduce (distributed/distributed_c10d.py:3174)"),
        ({"0": SLEEPS}, "it is in read_row (distillrun/data.py:12)"),
        ({"0": ""}, ""),
    ],
)
def test_the_cause_is_not_hidden_by_ranks_that_only_wait(dumps: dict[str, str], words: str) -> None:
    assert stacks.verdict(dumps, 1 if dumps in ({"0": SLEEPS}, {"0": ""}) else max(2, len(dumps))) == words


def test_of_many_ranks_a_few_are_named() -> None:
    said = stacks.verdict({str(n): WAITS if n else SLEEPS for n in range(64)}, 64)
    assert said.startswith("each of ranks 1, 2, 3, 4, 5, 6 and 57 more waits for the others")
    assert len(stacks.verdict({str(n): WAITS if n % 2 else SLEEPS for n in range(64)}, 64)) < 700
