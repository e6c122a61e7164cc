"""Laboratories with both versions of PostgreSQL, whose primaries start with an empty store."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from uuid import uuid4

import pytest

from indelible.postgres.migrations import migrate_store
from indelible.postgres.settings import Settings
from tests.failover.lab import Lab, Node
from tests.support.servers import system_binaries, wheel_binaries

SCHEMA = "indelible"


def _binaries() -> dict[str, Path]:
    found = {"embedded": wheel_binaries()}
    system = system_binaries()
    return found if system is None else {**found, "system": system}


@pytest.fixture(scope="session")
def lab_folder(server_folder: Path) -> Iterator[Path]:
    """A folder for laboratories: in memory where there is room, since all is copied so often."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < 2**32:
        yield server_folder
        return
    folder = Path(tempfile.mkdtemp(prefix="indelible-tests-", dir=memory))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def origins(lab_folder: Path) -> Iterator[Callable[[Path], Path]]:
    """Give the data folder that primaries begin with, made once: that of an empty store."""
    with ExitStack() as made:

        @cache
        def make(binaries: Path) -> Path:
            lab = made.enter_context(Lab(lab_folder / f"origin-{uuid4().hex[:8]}", binaries))
            node = lab.start(Node(lab))
            migrate_store(Settings(node.url, SCHEMA))
            node.stop()
            return node.data

        yield make


@pytest.fixture(scope="module", params=list(_binaries()))
def lab(
    request: pytest.FixtureRequest, lab_folder: Path, origins: Callable[[Path], Path]
) -> Iterator[Lab]:
    """A laboratory of one version of PostgreSQL."""
    binaries = _binaries()[request.param]
    with Lab(lab_folder / f"lab-{uuid4().hex[:8]}", binaries, origins(binaries)) as lab:
        yield lab
