"""What every stage shares: configuration, supervisor, exit codes, artifacts, metrics, trace formats.

Nothing in here imports torch, vllm or deepspeed: the curate image has none of them.
"""
