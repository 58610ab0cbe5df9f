"""Is the result of a stage there already? Asked on a CPU, so that no GPU is waited for in vain.

python -m distillstages.probe --config stage.yaml

`stage.yaml` is the one of the stage in question. With a published result of its fingerprint this ends as the stage
would have ended (outcome, artifact, numbers, reusedFrom); without one the outcome is Absent. The exit code is 0 in both
cases.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

from distillstages.common import config as configuration
from distillstages.common import logs, termination, worker
from distillstages.common.exit import Exit, StageError, Terminated
from distillstages.common.termination import Termination


def main() -> int:
    """Look, leave the termination message, return the exit code."""
    logs.setup("probe")
    for number in (signal.SIGTERM, signal.SIGINT):  # a first process of a container has no default handlers
        signal.signal(number, _stop)
    try:
        config = configuration.load(worker.parse_arguments("probe"))
        output = worker.open_output(config)
        end = worker.complete(output) or Termination(
            "Absent", message=f"there is no result of the {config.stage} stage at {output.uri}"
        )
        code: int = Exit.OK
    except (StageError, OSError) as error:
        fault = worker.as_stage_error(error)
        end, code = Termination.failed(fault), fault.code
    termination.write(end)
    print(end.encode().decode())
    return code


def _stop(number: int, frame: FrameType | None) -> None:
    raise Terminated(f"asked to stop ({signal.Signals(number).name})")


if __name__ == "__main__":
    sys.exit(main())
