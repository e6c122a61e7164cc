"""Emmett on PostgreSQL: a store for Node.js, driven by emmett.mjs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness import packages
from benchmarks.harness.server import Server

from . import NotRun, Peer

_PROGRAM = Path(__file__).with_suffix(".mjs")


@contextmanager
def _database(server: Server) -> Iterator[Mapping[str, Any]]:
    if shutil.which("node") is None:
        raise NotRun("Node.js is not installed (Debian: apt-get install nodejs)")
    packages.folder_of("@event-driven-io/emmett-postgresql")
    with server.database("emmett") as url:
        yield {"url": url, "packages": str(packages.FOLDER)}


EMMETT = Peer("Emmett", "Node.js", "peer", ("node", str(_PROGRAM)), _database)
