"""python -m distillstages.sandbox [--host HOST] [--port 8000] [--slots N]: the judge as a service, until SIGTERM.

It tries itself first and ends with 70 and a sentence on a machine that cannot confine a submission."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from distillstages.common.exit import Exit, Fault
from distillstages.sandbox import service


def main() -> int:
    """Serve; the exit code."""
    parser = argparse.ArgumentParser(prog="sandbox", description="Judge code over HTTP.")
    parser.add_argument("--host", default="", help="address to listen on; default: all")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--slots", type=int, help="submissions judged at the same time; default: one for each CPU")
    options = parser.parse_args()
    try:
        service.self_test()
        server = service.Server(host=options.host, port=options.port, slots=options.slots)
    except Fault as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return Exit.FAULT
    except OSError as error:
        print(f"sandbox: port {options.port}: {error.strerror}", file=sys.stderr)
        return Exit.FAULT
    for number in (signal.SIGTERM, signal.SIGINT):
        # shutdown() waits for the loop, which is this very thread's.
        signal.signal(number, lambda *_: threading.Thread(target=server.stop).start())
    print(f"sandbox: judging on port {server.port}", flush=True)
    server.run()
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main())
