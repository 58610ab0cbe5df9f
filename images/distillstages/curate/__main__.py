"""The curate stage.

python -m distillstages.curate --config stage.yaml
"""

import sys

from distillstages.common import supervisor

if __name__ == "__main__":
    sys.exit(supervisor.main("curate"))
