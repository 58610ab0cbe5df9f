"""The serve stage: vLLM's OpenAI server for the student, ready when it has answered a question."""
