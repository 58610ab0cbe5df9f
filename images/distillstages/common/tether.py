"""``python -m distillstages.common.tether PARENT_PID COMMAND …``: become COMMAND, and be asked to end when PARENT does.

A model server whose stage was killed would otherwise go on holding its memory and its GPUs. (Linux: the parent-death
signal is set here, in the child, and survives exec; a preexec_fn is not safe in a parent with threads.)
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Does not return when COMMAND can be started; 127 when it cannot, 143 when the parent is gone already."""
    parent, *command = arguments
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(parent):  # it ended before the line above
        return 128 + signal.SIGTERM
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
