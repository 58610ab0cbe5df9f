"""The resolve stage.

python -m distillstages.resolve --config stage.yaml
"""

import sys

from distillstages.common import supervisor

if __name__ == "__main__":
    sys.exit(supervisor.main("resolve"))
