"""The name of this process as a worker."""

from __future__ import annotations

import os
import platform


def worker_name() -> str:
    """Host and process, for people."""
    return f"{platform.node()}:{os.getpid()}"
