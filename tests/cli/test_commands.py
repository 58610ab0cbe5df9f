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
        self.patched: list[dict[str, Any]] = []
        self.refusals: list[tuple[int, dict[str, Any]]] = []

    def patch(self, address: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Takes a change unless a refusal is due."""
        self.asked.append(address)
        self.patched.append(body)
        return self.refusals.pop(0) if self.refusals else (200, runs.training())

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
            self.answer(*made.answer(self.path))

        def do_PATCH(self) -> None:
            assert self.headers["Content-Type"] == "application/merge-patch+json"
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer(*made.patch(self.path, body))

        def answer(self, code: int, body: Any) -> None:
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
    assert "kubectl distill list -A" in told.stderr


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


def conflict() -> tuple[int, dict[str, Any]]:
    return 409, {"kind": "Status", "reason": "Conflict", "message": "the object has been modified"}


def test_suspend_writes_the_spec_of_the_very_run_it_has_read(cluster: Cluster) -> None:
    run = runs.training()
    run["metadata"]["resourceVersion"] = "77"
    cluster.story = [(200, run)]
    told = call("suspend", "additions")
    assert told.exit_code == 0, told.stderr
    assert "additions is being suspended" in told.stdout
    assert cluster.patched == [
        {"metadata": {"uid": "uid-1", "resourceVersion": "77"}, "spec": {"suspend": True}},
    ]
    assert cluster.asked[-1] == f"{PATH}?fieldManager=distillrun-cli&fieldValidation=Strict"


def with_version(run: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    run["metadata"] |= {"resourceVersion": "1", **metadata}
    return run


def test_a_change_that_meets_another_one_is_decided_anew(cluster: Cluster) -> None:
    again = with_version(runs.failed())
    again["spec"]["retry"] = 4
    cluster.story = [(200, with_version(runs.failed())), (200, again)]
    cluster.refusals = [conflict()]
    told = call("retry", "additions")
    assert told.exit_code == 0, told.stderr
    assert [body["spec"] for body in cluster.patched] == [{"retry": 1}, {"retry": 5}]
    assert "spec.retry: 5" in told.stdout


def test_a_change_that_always_meets_another_one_is_given_up(cluster: Cluster) -> None:
    cluster.story = [(200, with_version(runs.failed()))]
    cluster.refusals = [conflict()] * 9
    told = call("retry", "additions")
    assert told.exit_code == 1
    assert "additions was not changed: the object has been modified" in told.stderr


def test_nothing_is_written_when_nothing_would_change_or_makes_sense(cluster: Cluster) -> None:
    cluster.story = [(200, with_version(runs.training()))]
    assert call("resume", "additions").exit_code == 0
    refused = call("retry", "additions")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "has not failed" in refused.stderr
    assert cluster.patched == []


def test_who_may_not_change_runs_is_told_which_right_that_takes(cluster: Cluster) -> None:
    cluster.story = [(200, with_version(runs.training()))]
    cluster.refusals = [(403, {"kind": "Status", "reason": "Forbidden", "message": "ann cannot patch distillruns"})]
    told = call("suspend", "additions")
    assert told.exit_code == 1
    assert "ann cannot patch distillruns: this takes the right to get and patch distillruns" in told.stderr


@pytest.mark.parametrize("command", ["suspend", "resume", "retry"])
def test_a_run_to_change_that_does_not_exist_is_named(cluster: Cluster, command: str) -> None:
    cluster.story = [(404, {"kind": "Status", "reason": "NotFound", "message": "not found"})]
    told = call(command, "additions")
    assert told.exit_code == 1
    assert "there is no DistillRun 'additions' in namespace 'demo-team'" in told.stderr


def test_a_run_of_a_gitops_tool_is_changed_with_a_warning(cluster: Cluster) -> None:
    labels = {"kustomize.toolkit.fluxcd.io/name": "runs"}
    cluster.story = [(200, with_version(runs.training(), labels=labels))]
    told = call("suspend", "additions")
    assert told.exit_code == 0
    assert "Flux (runs) manages this run and may undo it: change spec.suspend in its source, too" in told.stderr


def test_list_shows_the_runs_of_the_namespace_or_of_all(cluster: Cluster) -> None:
    base = "/apis/distillrun.dev/v1alpha1"
    cluster.pages[f"{base}/namespaces/demo-team/distillruns"] = {"items": [runs.training()]}
    cluster.pages[f"{base}/distillruns"] = {"items": [runs.training(), runs.failed()]}
    here, everywhere = call("list"), call("list", "-A")
    assert (here.exit_code, everywhere.exit_code) == (0, 0)
    assert here.stdout.splitlines()[0].split()[:2] == ["NAME", "PHASE"]
    assert everywhere.stdout.splitlines()[0].split()[:2] == ["NAMESPACE", "NAME"]
    assert len(everywhere.stdout.splitlines()) == 3
    assert "correct key apiKey of Secret teacher" in everywhere.stdout, "what goes to a file is not cut"


def test_a_list_of_nothing_says_so(cluster: Cluster) -> None:
    cluster.pages["/apis/distillrun.dev/v1alpha1/namespaces/demo-team/distillruns"] = {"items": []}
    told = call("list")
    assert (told.exit_code, told.stdout) == (0, "")
    assert "there is no DistillRun in namespace 'demo-team'" in told.stderr
