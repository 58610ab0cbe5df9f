"""The operator's HTTP server: /healthz, /readyz and /metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from distillrun.cluster.metrics import Metrics

Check = Callable[[], str]
"""Says what is wrong, "" when nothing is."""


class Server:
    """Serves until stopped. `healthy` decides whether the process should be restarted, `ready` whether it works."""

    def __init__(self, metrics: Metrics, *, healthy: Check, ready: Check) -> None:
        self.metrics = metrics
        self.healthy = healthy
        self.ready = ready
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, host: str | None, port: int) -> None:
        """Listen on `host` (None: every address); `port` 0 takes a free one, told by `self.port`.

        Raises OSError when the port is taken.
        """
        app = web.Application()
        app.router.add_get("/healthz", self._check(lambda: self.healthy()))
        app.router.add_get("/readyz", self._check(lambda: self.ready()))
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, shutdown_timeout=1.0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @staticmethod
    def _check(check: Check) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handler(_: web.Request) -> web.StreamResponse:
            wrong = check()
            return web.Response(status=503 if wrong else 200, text=(wrong or "ok") + "\n")

        return handler

    async def _metrics(self, _: web.Request) -> web.StreamResponse:
        body = await asyncio.to_thread(self.metrics.snapshot())
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
