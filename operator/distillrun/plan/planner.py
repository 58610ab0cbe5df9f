"""The path of a DistillRun, read from top to bottom: curate, train, evaluate, pass the gates, serve.

`plan` is a pure function. It looks at what is, says what must exist, what must go, which status follows and when to
look again. It keeps nothing between calls: the same answer comes out of a first pass, a retry and a restarted operator.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import ValidationError

from distillrun.api.status import Artifacts, Condition, Cost, Phase, Score, ServedEndpoint, Stage, Status
from distillrun.api.v1alpha1 import Spec
from distillrun.plan import attempts, cost, names, reasons, serving, stageconfig
from distillrun.plan.clock import rfc3339, since
from distillrun.plan.conditions import Conditions
from distillrun.plan.fingerprint import fingerprint
from distillrun.plan.gates import Verdict, judge
from distillrun.plan.model import STAGES, Decision, Event, Observed, Ref, Run, Settings, StageName, Want
from distillrun.plan.step import Step

_PHASES: dict[StageName, Phase] = {
    "curate": "Curating",
    "train": "Training",
    "evaluate": "Evaluating",
    "serve": "Serving",
}
_LONGEST_PAUSE_FOR_PROGRESS = 20.0
"""Running runs per second of pause between progress writes: 2,000 running runs write 20 statuses a second at most."""


def plan(run: Run, observed: Observed, now: datetime, settings: Settings) -> Decision:
    """What to do next about `run`."""
    if run.deleting:
        return Decision()  # owner references take the children along
    before = Status.model_validate(_known(run.status))
    try:
        spec = Spec.model_validate(dict(run.spec))
    except ValidationError as error:
        return _invalid(run, before, error, now)
    price = spec.budget.gpu_hour_price or settings.gpu_hour_price
    upstream: dict[StageName, str] = {}
    context = attempts.Context(run, spec, observed, now, price, upstream)
    old = {stage.name: stage for stage in before.stages}
    steps: list[Step] = []
    scores = list(before.scores)
    verdict: Verdict | None = None
    parent = ""

    for name in STAGES:
        stage = old.get(name) or Stage(name=name)
        if name in ("evaluate", "serve") and getattr(spec, name) is None:
            steps.append(Step(Stage(name=name, state="Skipped", cost=stage.cost)))
            continue
        if name == "serve":
            verdict = judge(spec.gates, scores)
            if not verdict.passed:
                steps.append(Step(Stage(name=name)))
                break
        done = stage.state in ("Succeeded", "Failed")
        mark = stage.fingerprint if done else fingerprint(spec, name, parent)
        step = serving.advance(context, stage, mark) if name == "serve" else attempts.advance(context, stage, mark)
        steps.append(step)
        if name == "evaluate" and step.stage.state == "Succeeded" and stage.state != "Succeeded":
            scores = attempts.scores([pod for pod in observed.pods.values() if pod.job == step.stage.job_name])
        if step.stage.state != "Succeeded":
            break
        upstream[name] = step.stage.artifact
        parent = mark
    else:
        verdict = verdict or judge(spec.gates, scores)

    steps += [Step(Stage(name=name)) for name in STAGES[len(steps) :]]
    stages = [step.stage for step in steps]
    status = _status(run, before, spec, stages, scores, verdict, settings, price, now)
    events = [event for step in steps for event in step.events]
    events += _run_events(before, status)
    return Decision(
        ensure=(*_storage(run, spec), *(want for step in steps for want in step.ensure)),
        status=_if_due(before, status, observed, settings, now),
        delete=_stale(run, observed, steps, before),
        events=tuple(events),
        requeue_after=min((wait for step in steps for wait in step.requeue), default=None),
    )


def _known(status: object) -> dict[str, object]:
    """The parts of a stored status that this version knows: a newer operator's additions do not stop an older one."""
    raw = dict(status) if isinstance(status, dict) else {}
    fields = {field.alias for field in Status.model_fields.values()}
    return {key: value for key, value in raw.items() if key in fields}


def _storage(run: Run, spec: Spec) -> tuple[Want, ...]:
    if spec.storage.claim_template is None:
        return ()
    return (Want("PersistentVolumeClaim", "storage", names.claim(run.name)),)


def _stale(run: Run, observed: Observed, steps: list[Step], before: Status) -> tuple[Ref, ...]:
    """Children that belong to the run and to no step of it any more: attempts gone by, a server without its gates.

    A Job of an attempt that status does not name as ended yet is spared: its outcome and cost must be written first.
    """
    serving_wanted = any(want.role == "server" for step in steps for want in step.ensure)
    keep = {step.stage.job_name for step in steps} | {want.name for step in steps for want in step.ensure}
    keep |= {stage.job_name for stage in before.stages if stage.job_name}
    server = names.server(run.name)
    refs = [
        Ref("Job", job.name, job.uid)
        for job in observed.jobs.values()
        if job.name not in keep and job.owner_uid == run.uid and not job.deleting
    ]
    refs += [
        Ref(child.kind, child.name, child.uid)
        for child in observed.children.values()
        if child.owner_uid == run.uid
        and not child.deleting
        and (
            (child.kind == "ConfigMap" and child.name not in keep)
            or (child.kind in ("Deployment", "Service") and child.name == server and not serving_wanted)
        )
    ]
    asked = [ref for step in steps for ref in step.delete]
    return tuple({(ref.kind, ref.name): ref for ref in (*asked, *refs)}.values())


def _status(
    run: Run,
    before: Status,
    spec: Spec,
    stages: list[Stage],
    scores: list[Score],
    verdict: Verdict | None,
    settings: Settings,
    price: str,
    now: datetime,
) -> Status:
    current = next((stage for stage in stages if stage.state not in ("Succeeded", "Skipped")), stages[-1])
    failed = current.state == "Failed"
    served = current.name == "serve" and current.state == "Running"
    complete = current.state in ("Succeeded", "Skipped") and (verdict is None or verdict.passed)
    barred = verdict is not None and not verdict.passed
    used = sum(float(stage.cost.gpu_seconds) for stage in stages if stage.cost is not None)
    return Status(
        observed_generation=run.generation,
        phase=_phase(stages, current, failed or barred, complete),
        stage="" if complete else current.name,
        message=_message(current, verdict, failed, barred, served, complete),
        conditions=_conditions(run, before, stages, current, verdict, failed, served, complete, now),
        stages=stages,
        progress=_percent(current),
        score=next((f"{float(s.value):.1%} {s.benchmark}"[:32] for s in scores if s.model == "student"), ""),
        cost=Cost(
            spent=cost.amount(used, price),
            currency=spec.budget.currency if spec.budget.gpu_hour_price else settings.currency,
            gpu_seconds=cost.seconds(used),
        ),
        scores=scores,
        artifacts=_artifacts(stages),
        endpoint=ServedEndpoint(
            url=f"http://{names.server(run.name)}.{run.namespace}.svc:{stageconfig.SERVE_PORT}/v1", model=run.name
        )
        if served
        else None,
    )


def _phase(stages: list[Stage], current: Stage, failed: bool, complete: bool) -> Phase:
    if failed:
        return "Failed"
    if complete:
        return "Succeeded"
    if current.name == "curate" and current.state == "Pending" and current.attempt <= 1:
        return "Pending"
    return _PHASES[current.name]


def _message(current: Stage, verdict: Verdict | None, failed: bool, barred: bool, served: bool, complete: bool) -> str:
    if barred and verdict is not None:
        return f"gates {verdict.message}"
    if failed:
        return f"{current.name} failed ({current.reason}): {current.message}"[:2048]
    if served:
        return "the student is served"
    if complete:
        return "all stages have succeeded"
    if current.message:
        return f"{current.name}: {current.message}"[:2048]
    return f"{current.name} attempt {max(current.attempt, 1)}"


def _percent(current: Stage) -> str:
    progress = current.progress
    if progress is None or not progress.total or current.state != "Running":
        return ""
    return f"{min(100 * progress.done // progress.total, 100)}%"


def _conditions(
    run: Run,
    before: Status,
    stages: list[Stage],
    current: Stage,
    verdict: Verdict | None,
    failed: bool,
    served: bool,
    complete: bool,
    now: datetime,
) -> list[Condition]:
    conditions = Conditions(before.conditions, run.generation, rfc3339(now))
    barred = verdict is not None and not verdict.passed
    if served or complete:
        reason = reasons.SERVED if served else reasons.COMPLETE
        conditions.add(reasons.READY, True, reason, "the student is served" if served else "all stages have succeeded")
    elif failed or barred:
        reason = reasons.GATES_NOT_PASSED if barred else current.reason or reasons.FAULT
        words = verdict.message if barred and verdict is not None else current.message
        conditions.add(reasons.READY, False, reason, words)
        conditions.add(reasons.STALLED, True, reason, words)
    else:
        reason = current.reason or (reasons.RUNNING if current.state == "Running" else reasons.PENDING)
        conditions.add(reasons.READY, False, reason, current.message or f"{current.name} is not done")
        conditions.add(reasons.RECONCILING, True, reason, f"{current.name} attempt {max(current.attempt, 1)}")
    for stage in stages:
        if stage.attempt and stage.state != "Skipped":
            conditions.add_stage(stage)
    if verdict is not None and run.spec.get("gates"):
        conditions.add_gates(verdict)
    return conditions.items


def _artifacts(stages: list[Stage]) -> Artifacts | None:
    made = {stage.name: stage.artifact for stage in stages if stage.state == "Succeeded"}
    if not made:
        return None
    return Artifacts(
        dataset=made.get("curate", ""),
        model=stageconfig.trained_model(made["train"]) if "train" in made else "",
        report=made.get("evaluate", ""),
    )


def _run_events(before: Status, after: Status) -> list[Event]:
    if after.phase == before.phase:
        return []
    if after.phase == "Failed":
        return [Event("Warning", "RunFailed", after.message)]
    if after.phase == "Succeeded":
        return [Event("Normal", "RunSucceeded", after.message)]
    return []


def _if_due(
    before: Status, after: Status, observed: Observed, settings: Settings, now: datetime
) -> dict[str, object] | None:
    """The status to write: at once when more than progress differs, else only when the last progress is old enough."""
    if after == before:
        return None
    if _steady(after) == _steady(before):
        if not _progress_time(after):
            return None
        written = _progress_time(before)
        pause = max(settings.progress_interval, observed.running_runs / _LONGEST_PAUSE_FOR_PROGRESS)
        if written and since(written, now) < pause:
            return None
    return after.model_dump(by_alias=True, mode="json", exclude_none=True)


def _progress_time(status: Status) -> str:
    """When the progress of the stage that runs was taken; "" when none runs or none is known."""
    running = (stage.progress for stage in status.stages if stage.state == "Running")
    return next((progress.time for progress in running if progress is not None and progress.time), "")


def _steady(status: Status) -> Status:
    """A status without what changes all the time while a stage runs."""
    still = [
        stage.model_copy(update={"progress": None, "cost": None, "last_checkpoint": None})
        if stage.state == "Running"
        else stage
        for stage in status.stages
    ]
    return status.model_copy(update={"stages": still, "progress": "", "cost": None})


def _invalid(run: Run, before: Status, error: ValidationError, now: datetime) -> Decision:
    """The stored spec is not one of this version's: written under another CRD, or with validation off."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    words = f"spec.{where}: {first['msg']}. Install the CRD of this operator's version and correct the field"
    conditions = Conditions(before.conditions, run.generation, rfc3339(now))
    conditions.add(reasons.READY, False, reasons.INVALID_SPEC, words)
    conditions.add(reasons.STALLED, True, reasons.INVALID_SPEC, words)
    after = before.model_copy(
        update={
            "observed_generation": run.generation,
            "phase": "Failed",
            "message": words[:2048],
            "conditions": conditions.items,
        }
    )
    return Decision(status=None if after == before else after.model_dump(by_alias=True, mode="json", exclude_none=True))
