"""What all tests of the stages share."""

from hypothesis import settings

# No test asserts time: how long an example takes depends on what else the machine does.
settings.register_profile("stages", deadline=None, max_examples=60)
settings.load_profile("stages")
