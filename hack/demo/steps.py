"""Steps with a line each: what is done, how long it has taken, and the last thing that the step's command said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
TAIL = 25
"""Lines of a failed command's output that are shown."""


class DemoError(Exception):
    """The demo cannot go on; the text says why and what to do."""


def clock(seconds: float) -> str:
    """``4:05``."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


class Step:
    """One step at work: runs commands with their output in the step's log."""

    def __init__(self, title: str, log: Path) -> None:
        self.title, self.log = title, log
        self.began = time.monotonic()
        self.note = ""
        """What to show at the end of the line once the step is done."""

    @property
    def seconds(self) -> float:
        """How long the step has taken."""
        return time.monotonic() - self.began

    def run(
        self, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, text: str | None = None
    ) -> str:
        """Runs a command with `text` as its input and returns its standard output. Raises DemoError if it fails."""
        words = [str(word) for word in command]
        with self.log.open("a", encoding="utf-8") as sink:
            print(f"$ {' '.join(words)}", file=sink, flush=True)
            done = subprocess.run(
                words,
                input=text if text is not None else "",
                stdout=subprocess.PIPE,
                stderr=sink,
                env={**os.environ, **(env or {})},
                text=True,
                check=False,
            )
            print(done.stdout, file=sink)
        if done.returncode:
            raise DemoError(f"{words[0]} {words[1] if len(words) > 1 else ''} ended with exit code {done.returncode}")
        return done.stdout

    def last_words(self) -> str:
        """The last line of the log that says something, for the line of progress."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        said = [line.strip() for line in lines if line.strip() and not line.startswith("$ ")]
        return said[-1] if said else ""


class Steps:
    """Numbered steps, one after the other, with the seconds that each took."""

    def __init__(self, total: int, logs: Path, out: TextIO | None = None) -> None:
        self.total, self.logs, self.out = total, logs, out or sys.stdout
        self.seconds: dict[str, float] = {}
        self.live = self.out.isatty()
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir(parents=True)

    @contextmanager
    def step(self, name: str, title: str, *, quiet: bool = False) -> Iterator[Step]:
        """A step; `quiet` leaves the terminal to the step itself. Shows the end of the log if the step fails."""
        number = len(self.seconds) + 1
        step = Step(title, self.logs / f"{number:02d}-{name}.log")
        head = f"[{number}/{self.total}] {title}"
        stop = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(step, head, stop), daemon=True)
        if self.live and not quiet:
            ticker.start()
        else:
            print(f"{head} …", file=self.out, flush=True)
        try:
            yield step
        except BaseException as error:
            self._end(stop, ticker)
            self.seconds[name] = round(step.seconds, 1)
            print(f"✘ {head}  {clock(step.seconds)}", file=self.out, flush=True)
            if isinstance(error, DemoError) and step.log.exists():
                lines = step.log.read_text(errors="replace").splitlines()
                print("\n".join(f"    {line}" for line in lines[-TAIL:]), file=self.out)
                print(f"    the whole log: {step.log}", file=self.out, flush=True)
            raise
        self._end(stop, ticker)
        self.seconds[name] = round(step.seconds, 1)
        note = f"  {step.note}" if step.note else ""
        print(f"✔ {head}  {clock(step.seconds)}{note}", file=self.out, flush=True)

    def _tick(self, step: Step, head: str, stop: threading.Event) -> None:
        turn = 0
        while not stop.wait(0.2):
            turn += 1
            line = f"{FRAMES[turn % len(FRAMES)]} {head}  {clock(step.seconds)}  {step.last_words()}"
            width = shutil.get_terminal_size().columns - 1
            self.out.write(f"\r\033[2K{line[:width]}")
            self.out.flush()

    def _end(self, stop: threading.Event, ticker: threading.Thread) -> None:
        stop.set()
        if ticker.is_alive():
            ticker.join()
            self.out.write("\r\033[2K")
