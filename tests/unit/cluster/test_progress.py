"""What a stage's pod says is untrusted: only finite numbers under our prefix come in, and never much."""

from __future__ import annotations

import gzip

import aiohttp
import pytest
from aiohttp import web

from distillrun.cluster import progress
from distillrun.cluster.cache import Cache
from distillrun.cluster.metrics import Metrics
from distillrun.cluster.progress import Puller, first_pods, parse, url_of
from tests.unit.cluster import bodies
from tests.unit.cluster.servers import serving

TEXT = """# HELP distillrun_stage_loss Loss.
# TYPE distillrun_stage_loss gauge
distillrun_stage_loss 0.25
distillrun_stage_progress_done 300
distillrun_stage_progress_total 600 1767225600000
distillrun_stage_progress_unit_info{unit="steps"} 1
distillrun_stage_traces_rejected{reason="WrongAnswer"} 39
python_info{version="3.11"} 1
"""


def test_a_stages_numbers_are_read_without_prefix_and_with_labels() -> None:
    assert parse(TEXT) == (
        {"loss": 0.25, "progress_done": 300, "progress_total": 600, 'traces_rejected{reason="WrongAnswer"}': 39},
        "steps",
    )


@pytest.mark.parametrize(
    "line",
    [
        "distillrun_stage_loss NaN",
        "distillrun_stage_loss +Inf",
        "distillrun_stage_loss",
        "distillrun_stage_loss one",
        "other_loss 1",
        "distillrun_stage_x{" + "y" * 1000 + "} 1",
        'distillrun_stage_progress_unit_info{unit="<b>steps</b>"} 1',
        "\x00\xff",
    ],
)
def test_what_is_no_number_of_ours_is_skipped(line: str) -> None:
    assert parse(line) == ({}, "")


def test_the_number_of_series_and_lines_is_bounded() -> None:
    many = "".join(f"distillrun_stage_n{number} 1\n" for number in range(10_000))
    assert len(parse(many)[0]) == progress.SERIES
    assert parse("\n" * progress.LINES + "distillrun_stage_loss 1") == ({}, "")


@pytest.mark.parametrize(
    "ip", ["127.0.0.1", "169.254.169.254", "::1", "fe80::1", "224.0.0.1", "0.0.0.0", "evil.test", ""]
)
def test_an_address_that_is_no_pods_is_not_asked(ip: str) -> None:
    assert url_of(ip, 9400) is None


def test_an_ipv6_pod_is_asked_in_brackets() -> None:
    assert url_of("fd00::9", 9400) == "http://[fd00::9]:9400/metrics"


def cached(**status: object) -> Cache:
    cache = Cache()
    cache.upsert("DistillRun", bodies.run())
    cache.upsert("Pod", bodies.pod(**status))
    return cache


def test_only_the_first_pod_of_the_newest_attempt_is_asked() -> None:
    cache = cached()
    other = bodies.pod("s1-train-1")
    other["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] = "1"
    newer = bodies.pod("s1-train-again")
    newer["metadata"]["labels"]["distillrun.dev/attempt"] = "2"
    for body in (other, newer):
        cache.upsert("Pod", body)
    assert [pod.name for _, pod in first_pods(cache)] == ["s1-train-again"]


@pytest.mark.parametrize("status", [{"phase": "Succeeded"}, {"phase": "Pending"}, {"podIP": ""}])
def test_a_pod_that_does_not_run_is_not_asked(status: dict[str, str]) -> None:
    assert list(first_pods(cached(**status))) == []


async def pulled(handler: object) -> Cache:
    cache = cached(podIP="127.0.0.1")
    async with serving(handler) as port:  # type: ignore[arg-type]
        puller = Puller(cache, port=port, allow_loopback=True)
        timeout = aiohttp.ClientTimeout(total=0.5)
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
            await puller.pull(session)
    return cache


def numbers(cache: Cache) -> dict[str, float]:
    run = cache.run(("team", "s1"))
    assert run is not None
    return {name: value for scrape in cache.observe(run).scrapes.values() for name, value in scrape.numbers.items()}


async def test_a_pods_numbers_reach_the_planner_and_the_operators_metrics() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=TEXT)

    cache = await pulled(handler)
    assert numbers(cache)["progress_done"] == 300
    exported = Metrics(cache).text().decode()
    assert 'distillrun_run_progress_done{namespace="team",run="s1",stage="train"} 300.0' in exported
    assert "WrongAnswer" not in exported


async def test_a_redirect_is_not_followed() -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        raise web.HTTPFound("/elsewhere")

    assert numbers(await pulled(handler)) == {}
    assert asked == ["/metrics"]


async def test_an_endless_answer_is_cut_and_what_came_before_counts() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(TEXT.encode())
        try:
            while True:
                await answer.write(b"# nothing at all\n" * 1000)
        except ConnectionError:
            return answer

    assert numbers(await pulled(handler))["loss"] == 0.25


async def test_a_pod_that_never_answers_costs_its_time_limit_and_nothing_else() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        import asyncio

        await asyncio.sleep(5)
        return answer

    assert numbers(await pulled(handler)) == {}


async def test_a_compressed_answer_is_refused_before_it_is_unpacked() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=gzip.compress(TEXT.encode()), headers={"Content-Encoding": "gzip"})

    assert numbers(await pulled(handler)) == {}
