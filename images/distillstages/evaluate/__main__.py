"""``python -m distillstages.evaluate --config stage.yaml``"""

from __future__ import annotations

import sys

from distillstages.common import supervisor

if __name__ == "__main__":
    # Loading is seen in the numbers every second, generating in the engine's token count: standing still is a hang.
    sys.exit(supervisor.main("evaluate", stall_timeout_seconds=1800))
