"""The stage programs of DistillRun: curate, train, evaluate, serve, and what they share (common).

Each stage reads one configuration file, writes artifacts, reports numbers over HTTP and ends with an exit code.
None of them knows Kubernetes; each runs on a laptop with `python -m distillstages.<stage> --config stage.yaml`.
"""
