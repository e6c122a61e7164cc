"""A program that drives one store, so that no store shares a process with another one.

It is told what to do in lines of JSON and answers in such lines: `client.py` in Python, another
program where a store has another language. It ends when its input does.
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
    """The driver could not do what it was told; the message is the end of what it said."""


class Driver:
    """A running driver.

    Args:
        command: the program.
        options: where its store is, and how it is set up; its first line.
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
            start_new_session=True,  # Ctrl-C is for us: we end it
        )
        self._send(options)

    @property
    def number(self) -> int:
        """The number of its process."""
        return self._process.pid

    def ask(self, do: str, *, timeout: float = 120.0, **arguments: Any) -> dict[str, Any]:
        """Tell it to do something, and wait for the answer.

        Raises:
            DriverFailed: it raised an error, ended, or did not answer in time.
        """
        self.tell(do, **arguments)
        return self.answer(timeout=timeout)

    def sample(self, do: str, *, timeout: float = 120.0, **arguments: Any) -> Sample:
        """Tell it to measure something."""
        found = self.ask(do, timeout=timeout, **arguments)
        return Sample(
            found["operations"],
            found["seconds"],
            found.get("latencies", ()),
            found.get("figures", {}),
        )

    def tell(self, do: str, **arguments: Any) -> None:
        """Tell it to do something, and do not wait."""
        self._send({"do": do, **arguments})

    def answer(self, *, timeout: float = 120.0) -> dict[str, Any]:
        """Wait for the answer to what it was told."""
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
        """End it."""
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
        return lines[-1] if lines else "it ended without a word"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def python_driver(client: str) -> list[str]:
    """The command that drives a class of `benchmarks.competitors`, named `module:class`."""
    return [sys.executable, "-m", "benchmarks.harness.client", client]
