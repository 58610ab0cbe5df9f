"""Code written by a model, judged by unit tests. What protects from it is in docs/verification.md."""
