"""The command line, run in this process: a tenth of the time that a process of its own takes."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest

from indelible.cli import main


@dataclass(frozen=True)
class Done:
    """What a command has said, and the exit code that it ended with."""

    code: int
    out: str
    err: str

    def lines(self) -> list[dict[str, Any]]:
        """Give the JSON lines of a command that went well."""
        assert self.code == 0, self.err
        return [json.loads(line) for line in self.out.splitlines()]


class Command:
    """Runs `indelible` on a store."""

    def __init__(self, url: str, schema: str) -> None:
        self._environment = {"INDELIBLE_URL": url, "INDELIBLE_SCHEMA": schema}

    def __call__(
        self,
        *arguments: str,
        given: bytes = b"",
        columns: int | None = None,
        encoding: str = "utf-8",
    ) -> Done:
        """Run a command.

        Args:
            arguments: those of the command.
            given: its standard input.
            columns: how wide the terminal is that it writes to; None where it writes to none.
            encoding: that of what it writes.
        """
        out, err = _Output(columns, encoding), _Output(None, encoding)
        environment = {**self._environment, "COLUMNS": str(columns or 80)}
        with (
            patch.dict(os.environ, environment),
            patch.object(sys, "argv", ["indelible", *arguments]),
            patch.object(sys, "path", list(sys.path)),
            patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), "utf-8")),
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as end,
        ):
            main()
        code = end.value.code
        assert isinstance(code, int)
        return Done(code, out.text(), err.text())


class _Output(io.TextIOWrapper):
    def __init__(self, columns: int | None, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding, newline="")
        self._columns = columns

    def isatty(self) -> bool:
        return self._columns is not None

    def text(self) -> str:
        self.flush()
        written = self.buffer
        assert isinstance(written, io.BytesIO)
        return written.getvalue().decode(self.encoding)
