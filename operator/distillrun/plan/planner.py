"""The path of a DistillRun, read from top to bottom: resolve, curate, train, evaluate, pass the gates, serve.

`plan` is a pure function. It looks at what is, says what must exist, what must go, which status follows and when to
look again. It keeps nothing between calls: the same answer comes out of a first pass, a retry and a restarted operator.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from pydantic import ValidationError

from distillrun.api.status import DONE, ENDED, Resolved, Score, Stage, Status
from distillrun.api.v1alpha1 import Spec
from distillrun.plan import (
    attempts,
    companions,
    estimate,
    feasibility,
    findings,
    isolation,
    lifecycle,
    meter,
    names,
    readiness,
    reasons,
    serving,
    settle,
    size,
    summary,
    unreadable,
)
from distillrun.plan.fingerprint import fingerprint
from distillrun.plan.gates import Verdict, judge
from distillrun.plan.lifecycle import Clock, Hold
from distillrun.plan.model import STAGES, Decision, Observed, Ref, Run, Settings, StageName, Want
from distillrun.plan.step import Step
from distillrun.plan.summary import PriceFrom
from distillrun.plan.writes import if_due


def plan(run: Run, observed: Observed, now: datetime, settings: Settings) -> Decision:
    """What to do next about `run`."""
    if run.deleting:
        return Decision()  # owner references take the children along
    try:
        before = Status.model_validate(unreadable.known(run.status))
    except ValidationError as error:
        return unreadable.status(run, error, now)
    try:
        spec = Spec.model_validate(dict(run.spec))
    except ValidationError as error:
        return unreadable.spec(run, before, error, now)
    walk = _Walk(run, spec, before, observed, now, settings)
    steps = walk.steps()
    status = summary.status(walk.facts(steps))
    finished = lifecycle.expiry(spec, status.finished_time, now)
    expired = finished is not None and finished <= 0
    waits = [wait for step in steps for wait in step.requeue]
    waits += [wait for wait in (*walk.waits, finished) if wait is not None and wait > 0]
    return Decision(
        ensure=(*_storage(run, spec), *(want for step in steps for want in step.ensure)),
        status=if_due(before, status, observed, settings, now),
        delete=_stale(run, observed, steps, before, expired),
        events=(*(event for step in steps for event in step.events), *summary.events(before, status)),
        requeue_after=min(waits, default=None),
    )


@dataclass
class _Walk:
    """One pass over a run's stages, in their order, up to the first one that is not done."""

    run: Run
    spec: Spec
    before: Status
    observed: Observed
    now: datetime
    settings: Settings
    waits: list[float | None] = field(default_factory=list)
    verdict: Verdict | None = None
    feasible: feasibility.Feasibility | None = None
    estimate: estimate.Estimate | None = None
    hold: Hold | None = None

    def __post_init__(self) -> None:
        self.old = {stage.name: stage for stage in self.before.stages}
        self.resolved = self.before.resolved or Resolved()
        self.scores: list[Score] = list(self.before.scores)
        self.clock = Clock(self.before.active_since, self.before.active_seconds)
        if lifecycle.reopened(self.spec, self.before):
            self._reopen()
        self.price = self.spec.budget.gpu_hour_price or self._book_price()
        self._meter()
        self._meter_companions()
        self.spending = lifecycle.spending(self.before, self.spec, self.observed, self.price, self.now, self.companions)
        served = self._done("evaluate") or (self.spec.evaluate is None and self._done("train"))
        self.hold = lifecycle.hold(self.spec, self.spending, served, self.standing)
        self.waits.append(lifecycle.until_limit(self.spec, self.spending))

    def _book_price(self) -> str:
        """The operator's price of a GPU hour: as frozen, or of today while there was none."""
        frozen = self.resolved.gpu_hour_price
        return frozen if frozen and float(frozen) > 0 else self.settings.price(self.spec.train.gpu_product)

    def _price_from(self) -> PriceFrom:
        """Whose price the run's costs go by."""
        if self.spec.budget.gpu_hour_price is not None:
            return "Run"
        if float(self.price) <= 0:
            return "Unknown"
        return "PriceBook" if self.spec.train.gpu_product in self.settings.price_book else "General"

    def _meter(self) -> None:
        """What serving has used, whoever holds its endpoint and whether it is still wanted."""
        known = self.before.cost.serving if self.before.cost else None
        pods = [pod for pod in self.observed.pods.values() if pod.stage == "serve"]
        servers = self.spec.serve.replicas * size.gpus(self.spec, "serve") if self.spec.serve else 0
        unwatched = meter.unwatched(known, self.observed, {names.server(self.run.name): servers})
        self.serving = meter.advance(known, pods, self.price, self.now, unwatched)
        self.standing = meter.standing(self.spec, self.serving, self.price)
        self.waits += meter.waits(self.spec, self.serving, self.price)

    def _meter_companions(self) -> None:
        """What model servers beside curation have used; its own cost is counted without them meanwhile."""
        curate = self.old.get("curate") or Stage(name="curate")
        known = curate.cost.servers if curate.cost else None
        pods = [pod for pod in self.observed.pods.values() if pod.stage.startswith(companions.MODEL)]
        servers = companions.needed(self.run.name, self.spec, "curate")
        unwatched = meter.unwatched(known, self.observed, {each.name: each.replicas * each.gpus for each in servers})
        self.companions = meter.advance(known, pods, self.price, self.now, unwatched)
        self.companions_gone = not pods and self.companions is not None and not self.companions.pods
        if meter.holding(self.companions):
            self.waits.append(meter.SHOWN_EVERY)
        if curate.name in self.old:
            self.old[curate.name] = settle.without_servers(curate)

    def _reopen(self) -> None:
        """`spec.retry` was raised: what failed is tried again, with the operator's images of today and a new clock."""
        failed = any(stage.state == "Failed" for stage in self.old.values())
        self.old = {name: lifecycle.reopen(self.run, stage) for name, stage in self.old.items()}
        if failed:
            self.clock = Clock(None, 0)
            if self.before.resolved is not None:
                self.resolved = self.resolved.model_copy(update={"images": dict(self.settings.images)})

    def steps(self) -> list[Step]:
        """The step of every stage; those that it is not the turn of stay as they are."""
        steps = self._steps()
        curate = steps[STAGES.index("curate")]
        curate.stage = settle.with_servers(curate.stage, self.companions, self.price, self.companions_gone)
        return steps

    def _steps(self) -> list[Step]:
        steps: list[Step] = []
        upstream: dict[StageName, str] = {}
        parent, reuse = "", False
        for name in STAGES:
            stage = self.old.get(name) or Stage(name=name)
            if name in ("evaluate", "serve") and getattr(self.spec, name) is None:
                steps.append(Step(Stage(name=name, state="Skipped", cost=stage.cost)))
                continue
            if self._barred(name, stage):
                steps.append(Step(stage))
                break
            context = attempts.Context(
                self.run,
                self.spec,
                self.observed,
                self.now,
                self.price,
                self.settings,
                upstream,
                self._pinned() if name == "resolve" else self.resolved,
                reuse,
            )
            step = self._step(context, stage, parent)
            if self.hold is None:
                step = readiness.attend(context, stage, step)
            steps.append(isolation.isolate(context, step, self.settings))
            if step.stage.state in DONE and stage.state not in DONE:
                self._keep_findings(step.stage)
            if step.stage.state not in DONE and not (name == "resolve" and self._under_way()):
                break
            if name == "evaluate" and steps[0].stage.state not in DONE:
                break
            upstream[name] = step.stage.artifact
            parent = step.stage.fingerprint if name != "resolve" else ""
            reuse = step.stage.state == "Reused"
        else:
            self.verdict = self.verdict or judge(self.spec.gates, self.scores)
        rest = STAGES[len(steps) :]
        return steps + [Step(self.old.get(name) or Stage(name=name)) for name in rest]

    def _step(self, context: attempts.Context, stage: Stage, parent: str) -> Step:
        """What becomes of a stage whose turn it is."""
        name: StageName = stage.name
        if stage.state in ENDED and name not in ("resolve", "serve"):
            return Step(stage)
        mark = fingerprint(self.run, self.spec, name, parent, context.resolved)
        if name == "resolve" and stage.state in DONE and stage.fingerprint != mark:
            stage = lifecycle.again(stage)  # the spec was edited: look again
        if name == "serve":
            if self.hold is not None:
                return serving.halt(context, stage, self.hold.reason, self.hold.message)
            return serving.advance(context, stage, mark)
        if stage.state in ENDED:
            return Step(stage)
        if self.hold is not None:
            return attempts.halt(context, stage, self.hold.reason, self.hold.message)
        left = lifecycle.deadline_left(self.spec, self.clock, self.now)
        if left is not None and left <= 0:
            limit = self.spec.active_deadline_seconds
            words = f"the run was active for its activeDeadlineSeconds of {limit}: raise them and spec.retry"
            return attempts.fail(context, stage, reasons.DEADLINE_EXCEEDED, words)
        self.waits.append(left)
        return attempts.advance(context, stage, mark)

    def _barred(self, name: StageName, stage: Stage) -> bool:
        """Whether a gate, or what preflight found, keeps a stage from beginning."""
        if name == "serve":
            self.verdict = judge(self.spec.gates, self.scores)
            return not self.verdict.passed
        if name not in ("curate", "train") or stage.job_name or self.hold is not None:
            return False
        dumped = self.resolved.model_dump(by_alias=True, mode="json", exclude_none=True)
        curated = self.old["curate"].results if name == "train" else None
        self.feasible = feasibility.judge(self.spec, dumped, curated)
        self.estimate = estimate.of(self.spec, dumped, curated or {}, Decimal(self.price))
        return self.feasible.status == "False" and self.spec.preflight == "Enforce"

    def _keep_findings(self, stage: Stage) -> None:
        """A stage has just succeeded: what its first pod found, besides headline numbers."""
        pods = attempts.pods_of(self.observed, stage.job_name)
        if stage.name == "evaluate":
            self.scores = findings.scores(pods)
        elif stage.name == "resolve":
            self.resolved = findings.resolved(pods, self.spec).model_copy(
                update={
                    "images": self.resolved.images or dict(self.settings.images),
                    "gpu_hour_price": self._book_price(),
                    "currency": self.settings.currency,
                }
            )
        self.old[stage.name] = stage

    def _pinned(self) -> Resolved:
        """What a new look at the inputs must leave as it is: what stages have been computed from."""
        return Resolved(
            student=self.resolved.student if self._begun("curate") else Resolved().student,
            sources=self.resolved.sources if self._begun("curate") else [],
            images=self.resolved.images,
        )

    def _under_way(self) -> bool:
        """Whether the run went on from an earlier look at its inputs, which still holds for curation and training."""
        return self.before.resolved is not None and self._begun("curate")

    def _begun(self, name: StageName) -> bool:
        stage = self.old.get(name)
        return stage is not None and stage.state in ("Running", *DONE)

    def _done(self, name: StageName) -> bool:
        stage = self.old.get(name)
        return stage is not None and stage.state in DONE

    def facts(self, steps: list[Step]) -> summary.Facts:
        """All that the status is made of."""
        return summary.Facts(
            run=self.run,
            spec=self.spec,
            before=self.before,
            stages=[step.stage for step in steps],
            scores=self.scores,
            verdict=self.verdict,
            feasible=self.feasible,
            estimate=self.estimate,
            hold=self.hold,
            over_budget=lifecycle.over_budget(self.spec, self.spending),
            serving=self.serving,
            standing=self.standing,
            resolved=self.resolved if self.resolved != Resolved() else None,
            clock=self.clock,
            price=self.price,
            price_from=self._price_from(),
            currency=self.spec.budget.currency if self.spec.budget.gpu_hour_price else self.settings.currency,
            now=self.now,
        )


def _storage(run: Run, spec: Spec) -> tuple[Want, ...]:
    if spec.storage.claim_template is None:
        return ()
    return (Want("PersistentVolumeClaim", "storage", names.claim(run.name)),)


def _stale(run: Run, observed: Observed, steps: list[Step], before: Status, expired: bool) -> tuple[Ref, ...]:
    """Children that belong to the run and to no step of it any more: attempts gone by, a server without its gates, a
    companion of a stage that needs none now.

    Once the run's time to live is over, that is all Jobs and what they needed, but not what serves.

    A Job of an attempt that status does not name as ended yet is spared: its outcome and cost must be written first.
    """
    wanted = {want.name for step in steps for want in step.ensure}
    keep = wanted | {step.stage.job_name for step in steps}
    keep |= {stage.job_name for stage in before.stages if stage.job_name}
    if expired:
        keep = wanted
    rendezvous = names.rendezvous(run.name)
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
            or (child.kind in ("Deployment", "Service") and child.name not in wanted and child.name != rendezvous)
            or (child.kind == "Service" and child.name == rendezvous and expired)
            or (child.kind == "NetworkPolicy" and child.name not in keep and expired)
        )
    ]
    asked = [ref for step in steps for ref in step.delete]
    return tuple({(ref.kind, ref.name): ref for ref in (*asked, *refs)}.values())
