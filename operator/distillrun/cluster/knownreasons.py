"""Reasons that metrics tell apart. A stage's reason is its pod's text: any other one is counted as Other."""

from __future__ import annotations

from distillrun.plan import reasons

STAGES = frozenset(
    {
        "UsageError",
        "ConfigInvalid",
        "DataInvalid",
        "Temporary",
        "Terminated",
        "Stalled",
        "DiskFull",
        "SupersededAttempt",
        "OutputUnwritable",
        "TeacherUnauthorized",
        "TeacherRefused",
        "TeacherUnavailable",
        "TeacherRateLimited",
        "TeacherDailyLimit",
        "TeacherGarbage",
        "SourceNotFound",
        "SourceUnreadable",
        "SourceEmpty",
        "InputChanged",
        "FieldMissing",
        "RowBroken",
        "NothingAccepted",
        "NoTests",
        "TestsUnreadable",
        "TestsTooLarge",
        "SandboxMissing",
        "SandboxUnavailable",
        "StudentNotFound",
        "StudentNoTokenizer",
        "NoChatTemplate",
        "SequenceTooLong",
        "BatchNotDivisible",
        "CheckpointsDamaged",
        "DatasetNotFound",
        "ModelNotFound",
        "EngineFailed",
    }
)
"""What the stage programs may give (images/distillstages/common/reasons.py; a test compares)."""
KNOWN = STAGES | {value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)}
OTHER = "Other"


def named(reason: str) -> str:
    """The label for a reason."""
    return reason if reason in KNOWN else OTHER
