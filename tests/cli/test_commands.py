"""The commands against an API server of the test: exit codes and what goes to which stream."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner

from distillrun.cli.app import app
from distillrun.cluster.errors import ApiError
from distillrun.cluster.readonly import Reader, default_namespace
from tests.cli import runs

PATH = "/apis/distillrun.dev/v1alpha1/namespaces/demo-team/distillruns/additions"


class Cluster:
    """An API server that tells a story: each GET of the run returns the next chapter, the last for ever."""

    def __init__(self) -> None:
        self.story: list[tuple[int, dict[str, Any]]] = []
        self.asked: list[str] = []
        self.tokens: list[str] = []
        self.pages: dict[str, Any] = {}

    def answer(self, address: str) -> tuple[int, Any]:
        self.asked.append(address)
        path = urlsplit(address).path
        if path == PATH:
            return self.story.pop(0) if len(self.story) > 1 else self.story[0]
        if path == "/api/v1/namespaces/demo-team/events":
            selector = parse_qs(urlsplit(address).query)["fieldSelector"]
            assert selector == ["involvedObject.uid=uid-1"]
            return 200, {
                "items": [{"reason": "StageStarted", "message": "curate", "lastTimestamp": "2026-03-01T12:00:00Z"}]
            }
        if path in self.pages:
            return 200, self.pages[path]
        return 404, {"kind": "Status", "reason": "NotFound", "message": f"{path} is not here"}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The server, and a KUBECONFIG that leads to it with `demo-team` as the context's namespace."""
    made = Cluster()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.tokens.append(self.headers.get("Authorization", ""))
            code, body = made.answer(self.path)
            data = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {"token": "a-token"}}],
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "demo-team"}},
            {"name": "elsewhere", "context": {"cluster": "c", "user": "u"}},
        ],
        "current-context": "here",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    yield made
    server.shutdown()
    server.server_close()


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_report_ends_with_0_only_if_the_gates_are_passed(cluster: Cluster) -> None:
    codes = []
    for run in (runs.served(), runs.barred(), runs.failed(), runs.training()):
        cluster.story = [(200, run)]
        codes.append(call("report", "additions").exit_code)
    assert codes == [0, 1, 1, 1]


def test_report_is_wide_enough_for_its_tables_when_it_goes_to_a_file(cluster: Cluster) -> None:
    cluster.story = [(200, runs.served())]
    told = call("report", "additions", "-n", "demo-team")
    assert "98.5 % (95.7–99.5)" in told.stdout
    assert "…" not in told.stdout.replace('"content": "…"', "")


def test_commands_to_look_further_are_never_cut(cluster: Cluster) -> None:
    run = runs.served()
    run["status"]["endpoint"]["model"] = "m" * 200
    cluster.story = [(200, run)]
    (curl,) = [line for line in call("report", "additions").stdout.splitlines() if "curl" in line]
    assert curl.endswith("}]}'")


def test_watch_goes_on_until_the_run_is_ready_and_tells_what_is_new(cluster: Cluster) -> None:
    cluster.story = [(200, each()) for each in (runs.fresh, runs.curating, runs.curating, runs.training, runs.served)]
    told = call("watch", "additions", "--interval", "0.2")
    assert told.exit_code == 0
    said = [line[9:] for line in told.stdout.splitlines()]
    assert said[:2] == ["Pending", "event StageStarted: curate"]
    assert sum("2,000/4,000 questions" in line for line in said) == 1
    assert "Training: train attempt 2" in said
    assert "Serving: the student is served" in said


def test_watch_ends_with_1_when_the_run_fails(cluster: Cluster) -> None:
    cluster.story = [(200, runs.curating()), (200, runs.failed())]
    told = call("watch", "additions", "--interval", "0.2")
    assert told.exit_code == 1
    assert "TeacherUnauthorized" in told.stdout


def test_watch_outlives_an_api_server_that_is_away_for_a_moment(cluster: Cluster) -> None:
    away = (503, {"kind": "Status", "reason": "ServiceUnavailable", "message": "etcd is away"})
    cluster.story = [(200, runs.curating()), away, away, (200, runs.served())]
    told = call("watch", "additions", "--interval", "0.2")
    assert told.exit_code == 0
    assert "the API server does not answer (ServiceUnavailable); trying again" in told.stdout


def test_watch_gives_up_after_the_time_that_it_is_given(cluster: Cluster) -> None:
    cluster.story = [(200, runs.curating())]
    told = call("watch", "additions", "--interval", "0.2", "--timeout", "0.1")
    assert told.exit_code == 3
    assert "additions had not ended after 0.1 seconds" in told.stderr


@pytest.mark.parametrize("command", ["watch", "report"])
def test_a_run_that_does_not_exist_is_named_with_its_namespace(cluster: Cluster, command: str) -> None:
    cluster.story = [(404, {"kind": "Status", "reason": "NotFound", "message": "not found"})]
    told = call(command, "additions")
    assert told.exit_code == 1
    assert "there is no DistillRun 'additions' in namespace 'demo-team'" in told.stderr
    assert "kubectl get distillruns -A" in told.stderr


def test_a_run_that_is_deleted_while_it_is_watched_ends_the_watch(cluster: Cluster) -> None:
    cluster.story = [(200, runs.curating()), (404, {"kind": "Status", "reason": "NotFound", "message": "not found"})]
    assert call("watch", "additions", "--interval", "0.2").exit_code == 1


def test_a_run_that_is_replaced_by_one_of_the_same_name_ends_the_watch(cluster: Cluster) -> None:
    another = runs.curating()
    another["metadata"]["uid"] = "uid-2"
    cluster.story = [(200, runs.curating()), (200, another)]
    told = call("watch", "additions", "--interval", "0.2")
    assert told.exit_code == 1
    assert "was deleted" in told.stderr


def test_who_may_not_read_runs_is_told_so_in_the_servers_words(cluster: Cluster) -> None:
    cluster.story = [(403, {"kind": "Status", "reason": "Forbidden", "message": "u cannot get resource distillruns"})]
    told = call("report", "additions")
    assert told.exit_code == 1
    assert "u cannot get resource distillruns" in told.stderr


def test_a_kubeconfig_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    told = call("report", "additions")
    assert told.exit_code == 1
    assert "Set KUBECONFIG" in told.stderr


def test_the_namespace_is_the_contexts_unless_one_is_given(cluster: Cluster) -> None:
    assert default_namespace() == "demo-team"
    assert default_namespace("elsewhere") == "default"


def test_the_reader_shows_its_token_and_reads_only(cluster: Cluster) -> None:
    cluster.story = [(200, runs.served())]
    assert Reader().run("demo-team", "additions")["metadata"]["uid"] == "uid-1"
    assert cluster.tokens == ["Bearer a-token"]


def test_the_reader_asks_the_first_running_pod_for_its_numbers(cluster: Cluster) -> None:
    def pod(name: str, index: str, phase: str) -> dict[str, Any]:
        labels = {"batch.kubernetes.io/job-completion-index": index}
        return {"metadata": {"name": name, "labels": labels}, "status": {"phase": phase}}

    pods = "/api/v1/namespaces/demo-team/pods"
    cluster.pages[pods] = {"items": [pod("t-1", "1", "Running"), pod("t-0", "0", "Running"), pod("t-2", "0", "Failed")]}
    cluster.pages[f"{pods}/t-0:9400/proxy/metrics"] = (
        'distillrun_stage_progress_done 3\ndistillrun_stage_progress_unit_info{unit="steps"} 1\n'
    )
    assert Reader().numbers("demo-team", {"a": "b", "c": "d"}) == ({"progress_done": 3.0}, "steps")
    assert cluster.asked[0] == f"{pods}?labelSelector=a%3Db%2Cc%3Dd"


def test_without_a_running_pod_there_are_no_numbers(cluster: Cluster) -> None:
    cluster.pages["/api/v1/namespaces/demo-team/pods"] = {"items": []}
    assert Reader().numbers("demo-team", {}) == ({}, "")


def test_the_reader_tells_what_the_server_refused(cluster: Cluster) -> None:
    with pytest.raises(ApiError) as error:
        Reader().log("demo-team", "no-such-pod")
    assert error.value.not_found
    assert "tailLines=20" in cluster.asked[0]
