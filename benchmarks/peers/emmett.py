"""Emmett: an event store for Node.js on PostgreSQL, run in a Node.js process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from benchmarks.harness import NotHere, Role, Turn
from benchmarks.machine import Bench
from benchmarks.peers import npm


class Emmett:
    """Appends one event at a time from as many promises as there are writers."""

    role: Role = "peer"

    def __init__(self, bench: Bench, *, writers: int) -> None:
        self.name = "Emmett" if writers == 1 else f"Emmett, {writers} promises"
        self._writers = writers
        folder = npm.installed()
        program = folder / "emmett.mjs"  # beside node_modules, where its imports are looked up
        shutil.copy(Path(__file__).with_suffix(".mjs"), program)
        given = conninfo_to_dict(bench.url)
        url = (
            f"postgresql://{given['user']}@localhost:{given.get('port', 5432)}/{given['dbname']}"
            f"?host={given['host']}"
        )
        self._process = subprocess.Popen(
            ["node", str(program)],
            env={**os.environ, "EMMETT_URL": url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if self._answer() != "ready":
            self._process.wait(10)
            assert self._process.stderr is not None
            raise NotHere(f"Emmett did not start: {self._process.stderr.read().strip()[-200:]}")

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def turn(self, bench: Bench) -> Turn:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{bench.seconds} {self._writers}\n")
        self._process.stdin.flush()
        found = json.loads(self._answer())
        return Turn(len(found["latencies"]), found["seconds"], found["latencies"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def appending(*, writers: int = 1) -> Callable[[Bench], Emmett]:
    def emmett(bench: Bench) -> Emmett:
        return Emmett(bench, writers=writers)

    return emmett
