"""Running other programs, and saying what is going on."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .errors import LocalKubeError

Words = list[str | Path]  # a command line


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    check: bool = True,
) -> str:
    """Run `command` to its end and return its standard output.

    Raises LocalKubeError with the end of the command's output if it fails, unless `check` is false.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, env=env, cwd=cwd, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError as missing:
        raise LocalKubeError(f"{words[0]} is not installed; `python3 hack/localkube build` installs it") from missing
    if check and done.returncode != 0:
        tail = "\n".join((done.stderr + done.stdout).strip().splitlines()[-15:])
        raise LocalKubeError(f"`{' '.join(words)}` ended with {done.returncode}:\n{tail}")
    return done.stdout


def say(text: str) -> None:
    """Print a progress line on standard error, so that standard output stays for answers."""
    print(text, file=sys.stderr, flush=True)


def wait_until(what: str, ready: Callable[[], bool], *, seconds: float, hint: Callable[[], str] = str) -> None:
    """Ask `ready` every tenth of a second until it says yes.

    Raises LocalKubeError after `seconds`, naming `what` did not happen, with `hint()` (say, the end of a log) below.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise LocalKubeError(f"{what} not after {seconds:.0f} s\n{hint()}".rstrip())
        time.sleep(0.1)


def tail(path: Path, lines: int = 12) -> str:
    """Return the last `lines` lines of a log, with the log's path before them; tells if there is none."""
    if not path.exists():
        return f"(no log at {path})"
    return f"{path}:\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
