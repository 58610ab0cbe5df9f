"""A client of the sandbox service: code and its tests go there, a verdict comes back.

| what comes back                                          | what it means                                             |
| -------------------------------------------------------- | --------------------------------------------------------- |
| a report                                                 | the verdict: accepted, or a reason                        |
| 400, 413                                                 | this submission cannot be judged: VerifyFailed            |
| 404 and other refusals, redirects                        | ConfigFault: the URL is not a sandbox's                   |
| 503, other 5xx, no connection, what is no report         | wait, ask again; at last Temporary SandboxUnavailable     |

A sandbox that is away says nothing about an answer, so no answer is ever rejected for it.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from types import TracebackType
from typing import Any, Final, Self

import httpx

from distillstages.common import blocks, reasons
from distillstages.common.codetests import UnitTests
from distillstages.common.exit import ConfigFault, Temporary
from distillstages.common.verify import Verdict

_REASONS: Final = {
    "WrongOutput": reasons.TESTS_FAILED,
    "RuntimeError": reasons.RUNTIME_ERROR,
    "TimeLimit": reasons.TIME_LIMIT,
    "MemoryLimit": reasons.MEMORY_LIMIT,
    "OutputLimit": reasons.OUTPUT_LIMIT,
    "Forbidden": reasons.FORBIDDEN,
}
# The service's own bounds (sandbox/requests.py), and how many times a case's limit all cases together may take.
_LEAST_CASE_SECONDS: Final = 0.1
_MOST_CASE_SECONDS: Final = 60.0
_MOST_TOTAL_SECONDS: Final = 600.0
_CASES_AT_LIMIT: Final = 60
_LONGEST_PAUSE_SECONDS: Final = 5.0
# No program may run for so long, and nobody waits for so long in the service's queue.
_ANSWER_SECONDS: Final = 3600.0
# A node that vanishes closes no connection: after a minute without a sign the kernel does.
_KEEPALIVE: Final = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
        if hasattr(socket, name)
    ),
]


class _Away(Exception):
    """No verdict this time; the message says what came instead."""


class Sandbox:
    """Asks one service, `concurrency` submissions at a time. `cpu_seconds`: of a case. Use as an async context manager.
    Raises ConfigFault for what is no URL."""

    def __init__(
        self,
        config: blocks.Sandbox,
        *,
        cpu_seconds: float = 5.0,
        concurrency: int = 16,
        pause_seconds: float = 0.5,
    ) -> None:
        self.url = config.url.rstrip("/")
        self._cpu_seconds = max(_LEAST_CASE_SECONDS, min(cpu_seconds, _MOST_CASE_SECONDS))
        self._patience = config.patience_seconds
        self._pause = pause_seconds
        self._answered_at = float("-inf")
        self._places = asyncio.Semaphore(concurrency)
        try:
            # A connection for each request, as the service wants it: replicas behind one address share the work.
            self._http = httpx.AsyncClient(
                base_url=self.url,
                timeout=httpx.Timeout(_ANSWER_SECONDS, connect=10),
                transport=httpx.AsyncHTTPTransport(
                    socket_options=_KEEPALIVE, limits=httpx.Limits(max_keepalive_connections=0)
                ),
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise self._no_sandbox(str(error)) from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def verdict(self, tests: UnitTests, code: str) -> Verdict:
        """Judge code: accepted if it passes every test. Raises Temporary SandboxUnavailable, ConfigFault."""
        async with self._places:
            for cases in tests.cases():
                report = await self._report(self._request(tests, cases, code))
                if report["verdict"] != "Passed":
                    reason = _REASONS.get(report["verdict"], reasons.VERIFY_FAILED)
                    return Verdict(False, reason, str(report.get("detail", ""))[:500] or report["verdict"], code)
        return Verdict(True, None, "passes its tests", code)

    def _request(self, tests: UnitTests, cases: bytes, code: str) -> bytes:
        rest = {
            "code": tests.header + code if "from __future__" not in code else code,
            "entryPoint": tests.entry_point,
            "limits": {
                "cpuSeconds": self._cpu_seconds,
                "totalCpuSeconds": min(_MOST_TOTAL_SECONDS, _CASES_AT_LIMIT * self._cpu_seconds),
                "outputBytes": tests.output_bytes,
            },
        }
        # The cases are JSON already, and may be large.
        return b'{"cases":%b,%b' % (cases, json.dumps(rest).encode()[1:])

    async def _report(self, request: bytes) -> dict[str, Any]:
        failures = 0
        since = time.monotonic()
        while True:
            try:
                report = self._read(await self._http.post("/judge", content=request))
                self._answered_at = time.monotonic()
                return report
            except (httpx.HTTPError, _Away) as error:
                trouble = str(error) or type(error).__name__
            if time.monotonic() - max(since, self._answered_at) > self._patience:
                raise Temporary(
                    f"the sandbox at {self._place} gives no verdicts ({trouble[:300]}); look at its pods. What was"
                    " answered is kept and judged once it is there",
                    reason=reasons.SANDBOX_UNAVAILABLE,
                    retry_after_seconds=60,
                )
            longest = min(_LONGEST_PAUSE_SECONDS, self._pause * 2 ** min(failures, 10))
            await asyncio.sleep(random.uniform(0.5, 1) * longest)
            failures += 1

    @property
    def _place(self) -> str:
        """Host and port: a URL may hold credentials."""
        url = httpx.URL(self.url)
        return f"{url.host}:{url.port}" if url.port else url.host

    def _no_sandbox(self, said: str) -> ConfigFault:
        return ConfigFault(f"sandbox.url is not a sandbox's: {said[:300]}; expected http://host:port of the service")

    def _read(self, response: httpx.Response) -> dict[str, Any]:
        """The report in a response. Raises _Away, ConfigFault."""
        status = response.status_code
        if status in (400, 413):
            return {"verdict": "", "detail": f"the sandbox cannot judge this: {response.text.strip()}"}
        if status >= 500 or status in (408, 429):
            raise _Away(f"HTTP {status}: {response.text.strip()[:200]}")
        if status != 200:
            raise self._no_sandbox(f"{self._place} answers HTTP {status} {response.text[:200]!r}")
        try:
            report = response.json()
        except (ValueError, RecursionError):
            raise _Away(f"not JSON: {response.text[:100]!r}") from None
        if not isinstance(report, dict) or not isinstance(report.get("verdict"), str):
            raise _Away(f"no report: {response.text[:100]!r}")
        return report
