"""The demo: ``make demo``, or ``python3 hack/demo``.

Builds what is missing, brings a Kubernetes up on this machine (or uses the one that KUBECONFIG or --context names,
after asking), installs the Helm chart, distils a teacher into a student before your eyes, and asks the student
something. Exit code 0 only if the student passed its gate. The last line of output is a JSON object with the seconds
of every step.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

import chat
import sample
import target as targets
from steps import DemoError, Step, Steps, clock
from target import ROOT, Target

SYSTEM = "distillrun-system"
RELEASE = "distillrun"
LOCAL_STEPS, COMMON_STEPS = 4, 5


def main() -> int:
    """Runs the demo as the command line says; returns the exit code."""
    options = _options()
    began = time.monotonic()
    steps = None
    ended = "failed"
    try:
        theirs = targets.named(options.context, assume_yes=options.yes)
        if options.clean:
            environment = theirs or {"KUBECONFIG": targets.own_kubeconfig()}
            return _clean(targets.with_tools(environment, {}) if environment["KUBECONFIG"] else None)
        target = targets.with_tools(theirs, targets.references(options.registry)) if theirs else None
        python = targets.development_python()
        steps = Steps(COMMON_STEPS + (0 if target else LOCAL_STEPS), targets.cache_root() / "demo" / "logs")
        if _demo(target or targets.local(steps), steps, python):
            ended = "passed"
    except DemoError as error:
        ended = "broken off"
        print(f"\n{error}", file=sys.stderr)
    except KeyboardInterrupt:
        ended = "interrupted"
        print("\ninterrupted; what was built is kept, and `make demo-clean` removes the demo", file=sys.stderr)
    if steps is not None:
        _summary(ended, round(time.monotonic() - began, 1), steps)
    return {"passed": 0, "interrupted": 130}.get(ended, 1)


def _demo(target: Target, steps: Steps, python: str) -> bool:
    """The demo on a cluster whose images are there; whether the gate was passed."""
    with steps.step("install", "the operator, by its Helm chart") as step:
        step.run(target.kube("apply", "-f", "-"), env=target.environment, text=_namespace(SYSTEM))
        step.run(target.chart(*install(target.images)), env=target.environment)
    with steps.step("world", "a teacher, a pupil and questions") as step:
        # A namespace of its own, new each time: so the run really runs again, and takes nothing over.
        _delete_namespace(target, step)
        step.run(target.kube("apply", "-f", "-"), env=target.environment, text=sample.world(target.images))
        at = ("-n", sample.NAMESPACE)
        step.run(target.kube(*at, "rollout", "status", "deployment/teacher", "--timeout=5m"), env=target.environment)
        wait = ("wait", "--for=condition=complete", "--timeout=10m", "job/seed")
        step.run(target.kube(*at, *wait), env=target.environment)
    with steps.step("run", "a DistillRun: curate, train, evaluate, serve", quiet=True) as step:
        step.run(target.kube("apply", "-f", "-"), env=target.environment, text=sample.run())
        print(
            f"    kubectl -n {sample.NAMESPACE} get distillrun {sample.RUN} --watch    # the same, in another window\n"
        )
        served = _distill(python, target, "watch", "--timeout", "3600") == 0
        print()
    with steps.step("report", "what has become of it", quiet=True):
        print()
        passed = _distill(python, target, "report") == 0
        print()
    if served:
        with steps.step("chat", "a question to the student") as step:
            asked = chat.ask(target, step)
        _show(asked)
    return served and passed


def install(images: dict[str, str]) -> list[str]:
    """Helm's arguments for installing the chart with these images."""
    settings = []
    for name, reference in images.items():
        repository, _, tag = reference.rpartition(":")
        settings += ["--set-string", f"images.{name}.repository={repository},images.{name}.tag={tag}"]
    chart = str(ROOT / "charts" / "distillrun")
    return ["upgrade", "--install", RELEASE, chart, "--namespace", SYSTEM, "--wait", "--timeout", "5m", *settings]


def _namespace(name: str) -> str:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})


def _delete_namespace(target: Target, step: Step) -> None:
    command = target.kube("delete", "namespace", sample.NAMESPACE, "--ignore-not-found", "--timeout=3m")
    step.run(command, env=target.environment)


def _distill(python: str, target: Target, command: str, *arguments: str) -> int:
    """`kubectl distill` out of this checkout, on this terminal; its exit code."""
    words = [python, "-m", "distillrun.cli", command, sample.RUN, "--namespace", sample.NAMESPACE, *arguments]
    path = os.pathsep.join([str(ROOT / "operator"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **target.environment, "PYTHONPATH": path}
    sys.stdout.flush()
    return subprocess.run(words, env=environment, check=False).returncode


def _show(asked: chat.Chat) -> None:
    print(f"\n    you      {asked.question}")
    for line in (asked.thinking.strip().splitlines() or [""]) if asked.thinking else []:
        print(f"    student  {line}    (thinking)" if line else "")
    for line in asked.answer.strip().splitlines():
        print(f"    student  {line}")


def _summary(ended: str, total: float, steps: Steps) -> None:
    verdict = {"passed": "The student passed its gate", "failed": "The student is not served"}
    if ended in verdict:
        print(f"\n{verdict[ended]}, {clock(total)} after the start.")
        print("Look further: docs/quickstart.md. `make demo-clean` removes the demo, `make cluster-down` the cluster.")
    print(json.dumps({"demo": ended, "seconds": total, "steps": steps.seconds}), flush=True)


def _clean(target: Target | None) -> int:
    """Removes the run, its world and the operator. CRD and cluster stay: there may be other runs."""
    if target is None:
        print("this machine has no cluster of its own: there is nothing to remove")
        return 0
    steps = Steps(1, targets.cache_root() / "demo" / "clean-logs")
    with steps.step("clean", "removing the demo") as step:
        _delete_namespace(target, step)
        uninstall = ("uninstall", RELEASE, "--namespace", SYSTEM, "--ignore-not-found", "--wait")
        step.run(target.chart(*uninstall), env=target.environment)
        gone = ("delete", "namespace", SYSTEM, "--ignore-not-found", "--timeout=2m")
        step.run(target.kube(*gone), env=target.environment)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 hack/demo", description=__doc__.splitlines()[0])
    parser.add_argument("--context", help="use the cluster of this context of the kubeconfig")
    parser.add_argument("--registry", help="where such a cluster pulls the images from: registry/path[:tag]")
    parser.add_argument("--yes", action="store_true", help="do not ask before a cluster of yours is used")
    parser.add_argument("--clean", action="store_true", help="remove the demo instead")
    return parser.parse_args()
