"""Tests of other platforms that can run on Linux."""

from __future__ import annotations

import subprocess
import sys

from indelible import __version__

_AS_ON_WINDOWS = """
import asyncio, importlib.metadata, os, signal, sys
import psycopg, psycopg_pool, msgspec, typer, rich.console  # these know the platform by themselves

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios"}:
            raise ModuleNotFoundError(f"there is no {name} on Windows", name=name)

sys.meta_path.insert(0, Missing())
for name in ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios"):
    sys.modules.pop(name, None)
for name in ("fork", "geteuid", "getuid", "register_at_fork", "setsid", "O_NOFOLLOW"):
    delattr(os, name)
for name in ("SIGCHLD", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1"):
    delattr(signal, name)
sys.platform = "win32"

import indelible, indelible.cli, indelible.testing
from indelible.errors import EmbeddedUnavailable

try:
    indelible.EventStore.connect()
except EmbeddedUnavailable as error:
    print(error)
sys.argv = ["indelible", "--version"]
indelible.cli.main()
"""


def test_the_package_and_the_command_can_be_imported_without_what_windows_lacks() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _AS_ON_WINDOWS],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
    assert "the embedded PostgreSQL runs on Linux and macOS only" in done.stdout
    assert done.stdout.endswith(f"indelible {__version__}\n")
