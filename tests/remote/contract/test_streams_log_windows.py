"""The contract of `tests/contract/streams/test_log_windows.py`, over HTTP."""

from tests.contract.streams.test_log_windows import *  # noqa: F403
