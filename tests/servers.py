"""PostgreSQL servers of the machine, run in a folder of their own for the time of a test run."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any, Self

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "max_prepared_transactions": "10",
    "fsync": "off",  # what a crash of the machine leaves behind is not tested here
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


class SystemServer:
    """A server made of the machine's own binaries; a context manager that stops it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        binaries = system_binaries()
        assert binaries is not None
        self._binaries = binaries

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Self:
        self.folder.mkdir()
        if os.geteuid() == 0:
            shutil.chown(self.folder, _account(), pwd.getpwnam(_account()).pw_gid)
        self._run(
            "initdb", "--username=postgres", "--auth=trust", "--no-locale", "--encoding=UTF8",
            "--no-sync",
        )  # fmt: skip
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop("immediate")

    def start(self) -> None:
        options = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())
        self._run(
            "pg_ctl", "start", "--wait", f"--log={self.folder}/log",
            f"--options=-p {self.port} -k {self.folder} {options}",
        )  # fmt: skip

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "stop", "--wait", f"--mode={mode}")

    def _run(self, program: str, *arguments: str) -> None:
        as_account: dict[str, Any] = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            as_account = {"user": _account(), "group": pwd.getpwnam(_account()).pw_gid}
            as_account["extra_groups"] = []
        subprocess.run(
            [str(self._binaries / program), f"--pgdata={self.folder}/data", *arguments],
            check=True,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            **as_account,
        )


def _account() -> str:
    accounts = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in accounts else "nobody"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
