"""CamelCase reasons: one list, so that nobody spells one twice. The operator copies them into conditions."""

from __future__ import annotations

from typing import Final

# Of every stage
USAGE: Final = "UsageError"
CONFIG: Final = "ConfigInvalid"
DATA: Final = "DataInvalid"
FAULT: Final = "Fault"
TEMPORARY: Final = "Temporary"
TERMINATED: Final = "Terminated"
KILLED: Final = "Killed"
STALLED: Final = "Stalled"
OUT_OF_MEMORY: Final = "OutOfMemory"
DISK_FULL: Final = "DiskFull"
PEER_LOST: Final = "PeerLost"
SUPERSEDED_ATTEMPT: Final = "SupersededAttempt"
OUTPUT_UNWRITABLE: Final = "OutputUnwritable"
INPUT_CHANGED: Final = "InputChanged"

# curate
TEACHER_UNAUTHORIZED: Final = "TeacherUnauthorized"
TEACHER_REFUSED: Final = "TeacherRefused"
TEACHER_UNAVAILABLE: Final = "TeacherUnavailable"
TEACHER_RATE_LIMITED: Final = "TeacherRateLimited"
TEACHER_DAILY_LIMIT: Final = "TeacherDailyLimit"
TEACHER_GARBAGE: Final = "TeacherGarbage"
SOURCE_NOT_FOUND: Final = "SourceNotFound"
SOURCE_UNREADABLE: Final = "SourceUnreadable"
SOURCE_EMPTY: Final = "SourceEmpty"
FIELD_MISSING: Final = "FieldMissing"
ROW_BROKEN: Final = "RowBroken"
NOTHING_ACCEPTED: Final = "NothingAccepted"

# train
STUDENT_NOT_FOUND: Final = "StudentNotFound"
STUDENT_NO_TOKENIZER: Final = "StudentNoTokenizer"
NO_CHAT_TEMPLATE: Final = "NoChatTemplate"
SEQUENCE_TOO_LONG: Final = "SequenceTooLong"
BATCH_NOT_DIVISIBLE: Final = "BatchNotDivisible"
CHECKPOINTS_DAMAGED: Final = "CheckpointsDamaged"
DATASET_NOT_FOUND: Final = "DatasetNotFound"

# Of stages that have code judged
SANDBOX_MISSING: Final = "SandboxMissing"
SANDBOX_UNAVAILABLE: Final = "SandboxUnavailable"

# evaluate, serve
MODEL_NOT_FOUND: Final = "ModelNotFound"
ENGINE_FAILED: Final = "EngineFailed"

# Reasons for which curation rejects one trace
WRONG_ANSWER: Final = "WrongAnswer"
NO_ANSWER: Final = "NoAnswer"
AMBIGUOUS_ANSWER: Final = "AmbiguousAnswer"
MALFORMED: Final = "Malformed"
TRUNCATED: Final = "Truncated"
UNVERIFIABLE_REFERENCE: Final = "UnverifiableReference"
VERIFY_TIMEOUT: Final = "VerifyTimeout"
VERIFY_FAILED: Final = "VerifyFailed"
CONTENT_FILTERED: Final = "ContentFiltered"
REQUEST_REFUSED: Final = "RequestRefused"
REQUEST_FAILED: Final = "RequestFailed"
# … and those of code; all but the first two are the sandbox's verdicts.
NO_CODE: Final = "NoCode"
TESTS_FAILED: Final = "TestsFailed"
RUNTIME_ERROR: Final = "RuntimeError"
TIME_LIMIT: Final = "TimeLimit"
MEMORY_LIMIT: Final = "MemoryLimit"
OUTPUT_LIMIT: Final = "OutputLimit"
FORBIDDEN: Final = "Forbidden"

# Reasons for which a row of a published dataset is left out, besides Malformed, Truncated, FieldMissing and RowBroken
NO_THINKING: Final = "NoThinking"
MULTIPLE_TURNS: Final = "MultipleTurns"
DUPLICATE: Final = "Duplicate"

# Reasons for which curation leaves out a question, besides Duplicate, and an accepted trace
NEAR_DUPLICATE: Final = "NearDuplicate"
CONTAMINATED: Final = "Contaminated"
NOT_DRAWN: Final = "NotDrawn"
FILTERED_OUT: Final = "FilteredOut"
TOO_EASY: Final = "TooEasy"
TOO_HARD: Final = "TooHard"
DIFFICULTY_UNKNOWN: Final = "DifficultyUnknown"
NOT_SELECTED: Final = "NotSelected"
NO_TESTS: Final = "NoTests"
TESTS_UNREADABLE: Final = "TestsUnreadable"
TESTS_TOO_LARGE: Final = "TestsTooLarge"
REWRITE_CHANGED_ANSWER: Final = "RewriteChangedAnswer"
REWRITE_UNUSABLE: Final = "RewriteUnusable"

# The verdict on a label that is none of those asked for: the question keeps the domain of its source
UNREADABLE_LABEL: Final = "UnreadableLabel"
