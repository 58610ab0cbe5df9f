"""Small HTTP servers for the client and the puller to meet, and connections to them."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace

from aiohttp import web

from distillrun.cluster.connection import Connection

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """A server on a free port of this machine that answers everything with `handler`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=0.1)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


class Loader:
    """Stands for the kubernetes package's configuration: its token may be rotated."""

    def __init__(self, port: int, token: str = "first") -> None:
        self.host = f"http://127.0.0.1:{port}"
        self.proxy = self.tls_server_name = self.username = self.password = self.cert_file = self.ssl_ca_cert = None
        self.verify_ssl = True
        self.token = token

    def get_api_key_with_prefix(self, identifier: str, alias: str | None = None) -> str:
        """As the real one says it: in lower case."""
        return f"bearer {self.token}"


def connection(loader: Loader | SimpleNamespace) -> Connection:
    """A connection as cluster/connection.py makes it."""
    made = Connection(loader)
    assert isinstance(made.ssl, ssl.SSLContext)
    return made
