"""``python3 hack/demo``, as ``make demo`` runs it; what it does is in play.py."""

import sys

from play import main

if __name__ == "__main__":
    sys.exit(main())
