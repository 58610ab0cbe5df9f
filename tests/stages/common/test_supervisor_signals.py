"""A signal that the kernel gives to another thread of the supervisor is forwarded all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]

# The supervisor of a worker that sleeps; once the worker is up, a second thread takes a SIGTERM meant for the process.
PARENT = """
import signal, sys, threading, time
from pathlib import Path
from distillstages.common.supervisor import Options, supervise

folder = Path(sys.argv[1])
worker = "import sys, time; from pathlib import Path; Path(sys.argv[1]).touch(); time.sleep(600)"

def take_the_signal():
    while not (folder / "up").exists():
        time.sleep(0.02)
    time.sleep(0.2)  # the main thread waits for the worker by now
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

threading.Thread(target=take_the_signal, daemon=True).start()
options = Options(stage="serve", port=0, termination_path=folder / "termination")
sys.exit(supervise([sys.executable, "-c", worker, str(folder / "up")], options))
"""


def test_a_sigterm_that_another_thread_takes_reaches_the_worker(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "images")}
    ended = subprocess.run([sys.executable, "-c", PARENT, str(tmp_path)], env=environment, timeout=120, check=False)
    assert ended.returncode == 143
    assert json.loads((tmp_path / "termination").read_text())["reason"] == "Terminated"
