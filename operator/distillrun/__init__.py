"""DistillRun: a Kubernetes operator that distils a reasoning model with one resource."""

__version__ = "0.1.0"
