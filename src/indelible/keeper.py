"""The keeper of an embedded server: starts it, waits until nobody uses it, stops it.

Run as a program of its own, by `embedded.py`, with nothing but the standard library, so that it
starts fast and needs nothing that its starter has imported. It says `ready`, or what went wrong, in
one line on its standard output.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    """Keep the server of the folder that standard input tells of."""
    task = json.load(sys.stdin)
    if os.fork():
        return 0  # the starter waits for this process; the one that stays is nobody's child
    folder = Path(task["folder"])
    # One keeper a folder. It is held until this process ends, however it ends.
    keeper_lock = (folder / "keeper.lock").open("a")
    try:
        fcntl.flock(keeper_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        _say("another keeper is at work")
        return 1
    users_lock = (folder / "users.lock").open("a")
    if not _is_running(task):
        started = _control(task, ["start", "--wait", "--timeout=60", *task["start"]])
        if started.returncode != 0:
            _say(" ".join(started.stdout.split()) or "pg_ctl failed without a word")
            return 1
    _say("ready")
    # Every process that uses the server holds this lock shared; the kernel takes it back from one
    # that was killed. Whoever comes while we stop the server waits for it, and starts a new keeper.
    fcntl.flock(users_lock, fcntl.LOCK_EX)
    _control(task, ["stop", "--wait", "--mode=fast"])
    return 0


def _is_running(task: dict[str, Any]) -> bool:
    return _control(task, ["status"]).returncode == 0


def _control(task: dict[str, Any], arguments: list[str]) -> subprocess.CompletedProcess[str]:
    # The server must not hold the locks, nor the pipe that our starter reads from: a file takes
    # its output, and no descriptor but the standard ones is passed on.
    output = Path(task["folder"]) / "keeper.log"
    with output.open("w+") as file:
        done = subprocess.run(
            [*task["control"], *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd="/",
            check=False,
            **task["account"],
        )
    return subprocess.CompletedProcess(done.args, done.returncode, output.read_text())


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    # The starter waits for the end of the pipe, not for ours.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    sys.exit(main())
