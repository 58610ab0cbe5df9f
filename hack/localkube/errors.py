"""The one exception whose text is meant for the person at the keyboard."""


class LocalKubeError(Exception):
    """Something that stops a command: the text names the thing, the value and the way forward."""
