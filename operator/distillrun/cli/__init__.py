"""`kubectl distill`: watch a run live, report on a finished one.

Installed as `kubectl-distill`, which kubectl finds as a plugin; `python -m distillrun.cli` is the same.
"""

from __future__ import annotations


def main() -> None:
    """Entry point of `kubectl-distill`."""
    from distillrun.cli.app import app

    app(prog_name="kubectl distill")


__all__ = ["main"]
