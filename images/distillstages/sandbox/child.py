"""What runs inside a child process, one of three: a program, a function that is called, or tests that call one.

On standard input comes first an 8-byte length and so much JSON: mode, code, limits. Once confined (jail.py) the child
writes one line: `ready` and its CPU seconds so far. From then on nothing that it writes is believed to be more than a
value. A program has standard input, output and error to itself. The other two speak lines (values.py) with the judge,

    a function   reads {"call": (entry point, positional, named)}, answers {"value": …} or {"error": (type, message)};
    tests        write {"call": …} for each call of their candidate and {"end": (verdict, detail)} at last,

and what they print goes nowhere. The tests are the benchmark's, not the model's; they are confined all the same.
"""

from __future__ import annotations

import builtins
import json
import os
import sys
import time
import types
from typing import Any, Final, NoReturn, cast

from distillstages.sandbox import jail, values

READY: Final = b"ready "
# How a program says why it ended. Whoever else ends so gets another reason for failing, never a pass.
MEMORY_STATUS, NO_JAIL_STATUS = 97, 98
_MESSAGE_CHARS: Final = 300


class SubmissionError(Exception):
    """Stands in the tests for an exception of the submission that has no counterpart among Python's own."""


def main() -> NoReturn:
    """Be what standard input says, to the end."""
    jail.die_with_parent(int(sys.argv[1]))
    setup = json.loads(_read_exactly(int.from_bytes(_read_exactly(8), "big")))
    lines = None if setup["mode"] == "program" else _Lines()
    sys.path[:] = [entry for entry in sys.path if entry != sys.argv[2]]
    sys.argv[:] = ["solution.py"]
    # `site` is not loaded, and scripts end with these.
    builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]
    output = lines.outgoing if lines else 1
    try:
        jail.enter(setup["cpuSeconds"], setup["memoryBytes"])
    except jail.NoJail as error:
        os.write(2, str(error).encode())
        os._exit(NO_JAIL_STATUS)
    os.write(output, READY + b"%.6f\n" % time.process_time())
    try:
        if lines is None:
            exec(compile(setup["code"], "solution.py", "exec"), _module("__main__"))
        elif setup["mode"] == "function":
            _serve(setup["code"], lines)
        else:
            _examine(setup["code"], setup["tests"], setup["entryPoint"], lines)
        sys.stdout.flush()
    except MemoryError:
        os._exit(MEMORY_STATUS)
    sys.exit(0)


def _read_exactly(size: int) -> bytes:
    """From file descriptor 0, unbuffered: what follows belongs to the program."""
    parts = b""
    while len(parts) < size:
        part = os.read(0, size - len(parts))
        if not part:
            os._exit(1)
        parts += part
    return parts


class _Lines:
    """The judge's lines, on file descriptors of their own; 0, 1 and 2 lead nowhere from here on."""

    def __init__(self) -> None:
        self.incoming, self.outgoing = os.fdopen(os.dup(0), "rb"), os.dup(1)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1):
            os.dup2(nowhere, number)

    def receive(self) -> dict[str, Any]:
        line = self.incoming.readline()
        if not line:
            os._exit(0)
        return cast(dict[str, Any], values.loads(line))

    def send(self, kind: str, value: object) -> None:
        line = values.dumps({kind: value})
        while line:
            line = line[os.write(self.outgoing, line) :]


def _module(name: str) -> dict[str, Any]:
    module = types.ModuleType(name)
    module.__builtins__ = builtins  # type: ignore[attr-defined]
    sys.modules[name] = module
    return module.__dict__


def _said(error: BaseException) -> tuple[str, str]:
    """Type and message, as short as a status needs them."""
    try:
        message = str(error)
    except BaseException:  # a submission's own __str__
        message = ""
    return type(error).__name__[:80], message[:_MESSAGE_CHARS]


def _serve(code: str, lines: _Lines) -> None:
    """Answer calls. The code is loaded before the first, and its failure is that call's."""
    scope, failure = _module("solution"), None
    try:
        exec(compile(code, "solution.py", "exec"), scope)
    except MemoryError:
        raise
    except BaseException as error:
        failure = _said(error)
    while True:
        name, positional, named = lines.receive()["call"]
        if failure:
            lines.send("error", failure)
            continue
        try:
            function = scope.get(name)
            if function is None and isinstance(scope.get("Solution"), type):
                function = getattr(scope["Solution"](), name, None)  # LeetCode's way
            if function is None:
                raise NameError(f"there is no {name} in the submission")
            result = function(*positional, **named)
            lines.send("value", result)
        except MemoryError:
            raise
        except BaseException as error:
            lines.send("error", _said(error))


def _examine(prelude: str, tests: str, entry_point: str, lines: _Lines) -> None:
    """Run tests whose candidate is elsewhere: each call is a line to the judge, who passes it on."""
    failed: list[str] = []

    def candidate(*positional: Any, **named: Any) -> Any:
        lines.send("call", (entry_point, list(positional), dict(named)))
        answer = lines.receive()
        if "value" in answer:
            return answer["value"]
        name, message = answer["error"]
        failed[:] = [f"{name}: {message}"]
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, UnicodeError):
            raise kind(message)
        raise SubmissionError(f"{name}: {message}")

    scope = _module("tests")
    try:
        exec(compile(prelude, "prelude.py", "exec"), scope)
        scope[entry_point] = candidate
        exec(compile(tests, "tests.py", "exec"), scope)
        scope[entry_point] = scope["candidate"] = candidate
        if "check" in scope:
            scope["check"](candidate)
    except MemoryError:
        raise
    except BaseException as error:
        name, message = _said(error)
        if failed and message and message in failed[-1]:
            lines.send("end", ("RuntimeError", failed[-1]))
        else:
            lines.send("end", ("WrongOutput", f"{name}: {message}".rstrip(": ")))
    else:
        lines.send("end", ("Passed", ""))
