"""The name of this process as a worker."""

from __future__ import annotations

import os
import platform
from uuid import uuid4


def worker_name() -> str:
    """Return the host name and the process id, for human readers."""
    return f"{platform.node()}:{os.getpid()}"


def daemon_name() -> str:
    """Return a unique name for a daemon of this process."""
    return f"{worker_name()}:{uuid4().hex[:6]}"
