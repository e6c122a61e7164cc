"""The guides for FastAPI and Django run unchanged, and print the output that they show."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from indelible.postgres.migrations import migrate_store
from indelible.postgres.settings import Settings

_HOWTO = Path(__file__).parents[2] / "docs" / "howto"


@pytest.fixture
def database(server_url: str) -> Iterator[str]:
    """A database of the test's own with a store in the schema that is the default."""
    name = f"howto_{uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        url = make_conninfo(server_url, dbname=name)
        migrate_store(Settings(url, "indelible"))
        yield url
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("server_url", ["embedded"], indirect=True, scope="session")
@pytest.mark.parametrize("page", ["fastapi.md", "django.md"])
def test_a_guide_runs_and_prints_what_it_promises(page: str, database: str) -> None:
    text = (_HOWTO / page).read_text("utf-8")
    program = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    (promised,) = re.findall(r"```text\n(.*?)```", text, flags=re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": "/usr/bin:/bin", "INDELIBLE_URL": database},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == promised, done.stderr
