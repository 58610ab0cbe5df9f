"""Reasons of conditions and events: constants for programs. docs/troubleshooting.md says what to do about each."""

# Conditions' types.
READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"
CURATED = "Curated"
TRAINED = "Trained"
EVALUATED = "Evaluated"
GATES_PASSED = "GatesPassed"
SERVING = "Serving"
SUSPENDED = "Suspended"
FEASIBLE = "Feasible"
BUDGET_EXCEEDED = "BudgetExceeded"
MAX_COST = "MaxCostReached"
STAGE_CONDITION = {"resolve": "Resolved", "curate": CURATED, "train": TRAINED, "evaluate": EVALUATED, "serve": SERVING}

# Where a stage stands.
PENDING = "Pending"
RUNNING = "Running"
SUCCEEDED = "Succeeded"

# Why a stage waits.
IMAGE_NOT_PULLED = "ImageNotPulled"
SECRET_NOT_FOUND = "SecretNotFound"
CLAIM_NOT_FOUND = "ClaimNotFound"
CLAIM_PENDING = "ClaimPending"
UNSCHEDULABLE = "Unschedulable"
CONTAINER_NOT_CREATED = "ContainerNotCreated"
NAME_CONFLICT = "NameConflict"
REFUSED = "Refused"

QUEUED = "Queued"
"""The Job is suspended: Kueue has not admitted it yet, or somebody holds it."""
PREEMPTED = "Preempted"
"""The Job was suspended while its pods ran."""

# Why an attempt ended.
NODE_LOST = "NodeLost"
STALLED_STAGE = "Stalled"
RELEASED = "Released"
DEADLINE_EXCEEDED = "DeadlineExceeded"
DISRUPTED = "Disrupted"
OUT_OF_MEMORY = "OutOfMemory"
PEER_LOST = "PeerLost"
KILLED = "Killed"
JOB_DELETED = "JobDeleted"
RESULT_LOST = "ResultLost"
FAULT = "Fault"
INVALID_SPEC = "InvalidSpec"
INVALID_STATUS = "InvalidStatus"

# How a run ends, or is held.
INFEASIBLE = "Infeasible"
SUPERSEDED = "Superseded"
WITHIN_BUDGET = "WithinBudget"
WITHIN_MAX_COST = "WithinMaxCost"
PRICE_UNKNOWN = "PriceUnknown"
NEAR_MAX_COST = "NearMaxCost"
REUSED = "Reused"
GATES_NOT_PASSED = "GatesNotPassed"
SERVED = "Served"
COMPLETE = "Complete"
