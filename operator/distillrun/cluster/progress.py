"""Pulls numbers from the running stages' first pods.

What a pod answers is untrusted: bounded in size, time, lines and series, read as numbers under our own prefix and
nothing else. Only addresses that the cache knows as pod IPs are asked, redirects are not followed, and addresses that
no pod has (loopback, link-local with the cloud's metadata service) are refused.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import aiohttp

from distillrun.cluster.cache import Cache
from distillrun.plan.model import Pod, Run, Scrape

logger = logging.getLogger(__name__)

PORT = 9400
INTERVAL = 10.0
TIMEOUT = 3.0
"""Seconds."""
BYTES, LINES, LINE_LENGTH, SERIES = 64 * 1024, 2000, 500, 256
AT_ONCE = 32
PREFIX = "distillrun_stage_"
UNIT = "progress_unit_info"
STAGES_WITH_PROGRESS = ("curate", "train", "evaluate")

LINE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})?\s+(\S+)(?:\s+-?\d+)?\s*$")
UNIT_LABEL = re.compile(r'unit="([a-z]{1,32})"')


def first_pods(cache: Cache) -> Iterator[tuple[Run, Pod]]:
    """For each run (without spec and status) the pod with index 0 of the newest attempt of each stage that runs."""
    for run in cache.active_runs():
        newest: dict[str, Pod] = {}
        for pod in cache.pods(run):
            answers = pod.phase == "Running" and pod.ip and not pod.deleting and pod.end is None
            if not answers or pod.index != 0 or pod.stage not in STAGES_WITH_PROGRESS:
                continue
            known = newest.get(pod.stage)
            if known is None or (pod.attempt, pod.created) > (known.attempt, known.created):
                newest[pod.stage] = pod
        for pod in newest.values():
            yield run, pod


def parse(text: str) -> tuple[dict[str, float], str]:
    """Numbers by name (without our prefix, labels in braces as exported) and the unit of progress.

    Lines that are broken, foreign or beyond the bounds are skipped, and so are values that are not finite.
    """
    numbers: dict[str, float] = {}
    unit = ""
    for line in text.split("\n", LINES)[:LINES]:
        if not line.startswith(PREFIX) or len(line) > LINE_LENGTH:
            continue
        found = LINE.match(line)
        if found is None:
            continue
        name, labels = found[1].removeprefix(PREFIX), found[2] or ""
        if name == UNIT:
            label = UNIT_LABEL.search(labels)
            unit = label[1] if label else unit
            continue
        try:
            value = float(found[3])
        except ValueError:
            continue
        if math.isfinite(value) and len(numbers) < SERIES:
            numbers[name + labels] = value
    return numbers, unit


def url_of(ip: str, port: int, *, allow_loopback: bool = False) -> str | None:
    """Where a pod exports its numbers; None when the address cannot be a pod's."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return None
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return None
    if address.is_loopback and not allow_loopback:
        return None
    host = f"[{ip}]" if address.version == 6 else ip
    return f"http://{host}:{port}/metrics"


class Puller:
    """Every `interval` seconds asks the first pods and leaves what they say in the cache."""

    def __init__(
        self,
        cache: Cache,
        *,
        port: int = PORT,
        interval: float = INTERVAL,
        allow_loopback: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.cache = cache
        self.port = port
        self.interval = interval
        self.allow_loopback = allow_loopback
        self.clock = clock
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Pull until cancelled."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        # A connection a request: pods come and go, and an idle one is one more thing that a pod can hold on to.
        connector = aiohttp.TCPConnector(force_close=True, limit=AT_ONCE)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False) as session:
            while True:
                await self.pull(session)
                await asyncio.sleep(self.interval)

    async def pull(self, session: aiohttp.ClientSession) -> None:
        """Ask every first pod once. A pod that does not answer is silent until the next time."""
        pulls = [self._pull_one(session, run, pod) for run, pod in first_pods(self.cache)]
        for outcome in await asyncio.gather(*pulls, return_exceptions=True):
            if isinstance(outcome, Exception):  # a fault of ours: progress is lost, the operator goes on
                logger.error("Pulling progress failed: %r", outcome, exc_info=outcome)

    async def _pull_one(self, session: aiohttp.ClientSession, run: Run, pod: Pod) -> None:
        url = url_of(pod.ip, self.port, allow_loopback=self.allow_loopback)
        if url is None:
            return
        async with self._slots:
            try:
                text = await _fetch(session, url)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                logger.debug("No numbers from pod %s/%s: %s", run.namespace, pod.name, error)
                return
        numbers, unit = parse(text)
        if numbers:
            self.cache.put_scrape(pod.name, run.namespace, Scrape(pod.uid, self.clock(), numbers, unit))


async def _fetch(session: aiohttp.ClientSession, url: str) -> str:
    """The first BYTES of the answer, cut at the last whole line when there is more."""
    headers = {"Accept": "text/plain", "Accept-Encoding": "identity"}
    async with session.get(url, allow_redirects=False, headers=headers) as answer:
        if answer.status != 200:
            raise ValueError(f"HTTP {answer.status}")
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise ValueError("a compressed answer, which nobody asked for")
        data = b""
        async for chunk in answer.content.iter_chunked(16 * 1024):
            data += chunk
            if len(data) > BYTES:
                data = data[:BYTES].rpartition(b"\n")[0]
                break
    return data.decode("utf-8", "replace")
