"""Kubernetes objects as plain dicts, pure functions of what the plan wants."""
