"""``python -m distillstages.serve --config stage.yaml``"""

from __future__ import annotations

import sys

from distillstages.common import supervisor

if __name__ == "__main__":
    # No stall limit: a server that nobody asks anything stands still for as long as it likes.
    sys.exit(supervisor.main("serve", ready_by_default=False))
