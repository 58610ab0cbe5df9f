"""The real sandbox service, in a thread of the tests."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from distillstages.sandbox.service import Server


@contextlib.contextmanager
def sandbox() -> Iterator[str]:
    """Its URL, while it runs."""
    server = Server(host="127.0.0.1", port=0, slots=2)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.stop()
        thread.join()
