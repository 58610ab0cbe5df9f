"""How a main thread waits for a signal without missing one."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def signal_wakeups() -> Iterator[Callable[[], None]]:
    """A function that waits until a signal has come, SIGCHLD among them.

    The kernel may give a signal to any of our threads. Python's handlers run in the main thread, which a signal taken
    elsewhere does not wake from a blocking waitpid: SIGTERM would be noticed only at the worker's own end. So the main
    thread waits at a pipe that the interpreter writes to, whichever thread takes the signal."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    previous_handler = signal.signal(signal.SIGCHLD, lambda number, frame: None)
    previous_descriptor = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)

    def wait_for_signal() -> None:
        # A second at most, so that nothing hangs for ever should a wake-up be lost.
        if select.select([readable], [], [], 1.0)[0]:
            os.read(readable, 4096)

    try:
        yield wait_for_signal
    finally:
        signal.set_wakeup_fd(previous_descriptor)
        signal.signal(signal.SIGCHLD, previous_handler)
        os.close(readable)
        os.close(writable)
