"""The name of this process as a worker."""

from __future__ import annotations

import os
import platform
from uuid import uuid4


def worker_name() -> str:
    """Host and process, for people."""
    return f"{platform.node()}:{os.getpid()}"


def daemon_name() -> str:
    """A name for a process's part of the work, which no other process has."""
    return f"{worker_name()}:{uuid4().hex[:6]}"
