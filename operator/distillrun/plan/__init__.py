"""What should happen next to a run: pure functions of the run, what is observed, and the time."""
