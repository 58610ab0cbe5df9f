"""The progress port, asked over HTTP and read with Prometheus' own parser."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import pty
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from distillstages.common import logs
from distillstages.common.metrics import MAX_SERIES, Metrics, Server, render
from distillstages.common.progress import Progress

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path, port=0, host="127.0.0.1").start()
    yield started
    started.stop()


def get(server: Server, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for f in text_string_to_metric_families(text)
        for s in f.samples
    }


def test_the_port_answers_before_the_worker_has_said_anything(server: Server) -> None:
    assert get(server, "/metrics") == (200, "")
    assert get(server, "/healthz") == (200, "ok\n")
    assert get(server, "/readyz")[0] == 200
    assert get(server, "/secrets")[0] == 404


def test_numbers_set_by_the_worker_are_read_by_prometheus(server: Server, tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    metrics.set("progress_done", 12)
    metrics.set("loss", 0.125)
    metrics.set("accuracy", math.nan, benchmark='a"b\\c\nd', model="base")
    metrics.flush()
    found = samples(get(server, "/metrics")[1])
    assert found["distillrun_stage_progress_done", ()] == 12
    assert found["distillrun_stage_loss", ()] == 0.125
    assert math.isnan(found["distillrun_stage_accuracy", (("benchmark", 'a"b\\c\nd'), ("model", "base"))])


def test_readiness_is_what_the_worker_says(server: Server, tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    metrics.set_ready(False)
    assert get(server, "/readyz")[0] == 503
    metrics.set_ready(True)
    assert get(server, "/readyz")[0] == 200


def test_a_stage_that_must_warm_up_is_not_ready_by_default(tmp_path: Path) -> None:
    server = Server(tmp_path, port=0, host="127.0.0.1", ready_by_default=False).start()
    try:
        assert get(server, "/readyz")[0] == 503
    finally:
        server.stop()


def test_rank_zero_counts_where_ranks_disagree(server: Server, tmp_path: Path) -> None:
    for rank, loss in (("10", 3.0), ("0", 1.0), ("2", 2.0)):
        metrics = Metrics(tmp_path, rank)
        metrics.set("loss", loss)
        metrics.flush()
    assert samples(get(server, "/metrics")[1])["distillrun_stage_loss", ()] == 1.0


def test_series_and_labels_are_bounded() -> None:
    metrics = Metrics()
    for n in range(3 * MAX_SERIES):
        metrics.set("traces_rejected", 1, reason=f"{n} " + "x" * 1000)
    text = render([metrics.snapshot()]).decode()
    assert len(samples(text)) == MAX_SERIES
    assert len(text) < 200 * MAX_SERIES


def test_a_broken_snapshot_is_left_out(server: Server, tmp_path: Path) -> None:
    (tmp_path / "metrics-0.json").write_text('{"series": [["loss"')
    assert get(server, "/metrics") == (200, "")


def test_a_client_that_says_nothing_does_not_block_the_others(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)):
        assert get(server, "/healthz")[0] == 200


def test_a_name_that_prometheus_does_not_allow_is_refused() -> None:
    with pytest.raises(ValueError, match="'Loss-1'"):
        Metrics().set("Loss-1", 1)


def test_progress_sets_the_gauges_of_the_contract_and_logs_json_lines() -> None:
    stream = io.StringIO()
    logs.setup("train", stream=stream)
    metrics = Metrics()
    with Progress(metrics, unit="steps", total=10, done=4) as progress:
        progress.update(5, loss=0.5)
        progress.advance()
    assert metrics.get("progress_done") == 6
    assert metrics.get("progress_total") == 10
    assert metrics.get("progress_unit_info", unit="steps") == 1
    line = json.loads(stream.getvalue().splitlines()[-1])
    assert (line["stage"], line["level"], line["done"], line["total"], line["unit"]) == (
        "train",
        "info",
        6,
        10,
        "steps",
    )
    assert line["loss"] == 0.5


def test_secrets_never_reach_a_log_line() -> None:
    stream = io.StringIO()
    logs.setup("curate", stream=stream)
    logs.register_secret("sk-abc-123456")
    try:
        raise RuntimeError("refused sk-abc-123456")
    except RuntimeError:
        logging.getLogger("x").exception("Bearer %s", "sk-abc-123456")
    assert "sk-abc-123456" not in stream.getvalue()
    assert "***" in json.loads(stream.getvalue())["message"]


def test_on_a_terminal_progress_is_a_bar() -> None:
    code = (
        "import time\n"
        "from distillstages.common.metrics import Metrics\n"
        "from distillstages.common.progress import Progress\n"
        "with Progress(Metrics(), unit='questions', total=7) as progress:\n"
        "    progress.update(3, accepted=2)\n"
        "    time.sleep(0.3)\n"
    )
    ours, theirs = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "images"), "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:
        pass  # how Linux says that the other side of a terminal was closed
    finally:
        os.close(ours)
    assert process.wait() == 0
    assert b"questions" in shown
    assert b"3/7" in shown
    assert b"accepted=2" in shown
    assert b'{"time"' not in shown
