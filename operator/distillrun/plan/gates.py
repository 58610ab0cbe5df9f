"""Gates: whether the student's scores clear the bars that decide serving. Decided from scores and spec each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distillrun.api.stages import Gate
from distillrun.api.status import Score


@dataclass(frozen=True)
class Verdict:
    """Whether all gates passed, and a sentence about them."""

    passed: bool
    message: str


def judge(gates: Sequence[Gate], scores: Sequence[Score]) -> Verdict:
    """Compare the student's scores with each gate. A score that is missing does not pass."""
    if not gates:
        return Verdict(True, "there are no gates")
    failed, passed = [], []
    for gate in gates:
        score = next((s for s in scores if s.benchmark == gate.benchmark and s.model == "student"), None)
        if score is None:
            failed.append(f"{gate.benchmark} has no score")
            continue
        value = score.value if gate.metric == "Accuracy" else score.low
        words = f"{gate.benchmark} {gate.metric} {value}"
        if float(value) >= float(gate.at_least):
            passed.append(f"{words} ≥ {gate.at_least}")
        else:
            failed.append(f"{words} < {gate.at_least}")
    if failed:
        return Verdict(False, f"not passed: {'; '.join(failed)}. Lower the gate or train a better student")
    return Verdict(True, f"passed: {'; '.join(passed)}")
