"""The evaluate stage: every model is served by vLLM in turn, asked every benchmark's questions, and graded."""
