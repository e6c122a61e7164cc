"""Drive one store with a separate program, so that stores do not share a process.

The program reads commands as lines of JSON, and answers with lines of JSON. It is `client.py`, or
another program for stores in other languages. It ends at the end of its input.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from .rounds import Sample

_ROOT = Path(__file__).parents[2]


class DriverFailed(Exception):
    """A command of the driver failed; the message is the last line of its output."""


class Driver:
    """A running driver.

    Args:
        command: the program.
        options: the options of its store, sent as the first line.
    """

    def __init__(self, command: Sequence[str], options: Mapping[str, Any]) -> None:
        self._said = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115  # closed with the driver
        environment = {**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            cwd=_ROOT,
            env=environment,
            start_new_session=True,  # so that Ctrl-C does not reach it: this process ends it
        )
        self._send(options)

    @property
    def number(self) -> int:
        """The id of its process."""
        return self._process.pid

    def ask(self, do: str, *, timeout: float = 120.0, **arguments: Any) -> dict[str, Any]:
        """Send a command, and wait for the answer.

        Raises:
            DriverFailed: the command failed, or the driver ended or did not answer in time.
        """
        self.tell(do, **arguments)
        return self.answer(timeout=timeout)

    def sample(self, do: str, *, timeout: float = 120.0, **arguments: Any) -> Sample:
        """Run a command that measures, and return its result."""
        found = self.ask(do, timeout=timeout, **arguments)
        return Sample(
            found["operations"],
            found["seconds"],
            found.get("latencies", ()),
            found.get("figures", {}),
        )

    def tell(self, do: str, **arguments: Any) -> None:
        """Send a command without waiting."""
        self._send({"do": do, **arguments})

    def answer(self, *, timeout: float = 120.0) -> dict[str, Any]:
        """Wait for the answer to the last command."""
        output = self._process.stdout
        assert output is not None
        deadline = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            if not selector.select(deadline - time.monotonic()):
                raise DriverFailed(f"no answer within {timeout:g} seconds; {self._last_words()}")
        line = output.readline()
        if not line:
            self._process.wait(10)
            raise DriverFailed(self._last_words())
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise DriverFailed(str(found["error"]))
        return found

    def close(self) -> None:
        """End the driver."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise DriverFailed(self._last_words()) from None

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().strip().splitlines()
        return lines[-1] if lines else "it ended without a message"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def python_driver(client: str) -> list[str]:
    """Return the command that drives the class `module:class` of `benchmarks.competitors`."""
    return [sys.executable, "-m", "benchmarks.harness.client", client]
