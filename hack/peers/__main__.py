"""Lets `python3 hack/peers COMMAND` run from any folder."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Started by its folder, Python puts this folder first on the path; the package is `hack.peers`, two levels up.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from hack.peers.cli import main

    sys.exit(main())
