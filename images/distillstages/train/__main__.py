"""`python -m distillstages.train --config stage.yaml`: supervise the launcher, which supervises the ranks."""

from __future__ import annotations

import sys

from distillstages.common import supervisor
from distillstages.common.config import StageConfig


def command(config: StageConfig, path: str) -> list[str]:
    """The launcher's command line."""
    return [sys.executable, "-m", "distillstages.train.launch", "--config", path]


if __name__ == "__main__":
    sys.exit(supervisor.main("train", command))
