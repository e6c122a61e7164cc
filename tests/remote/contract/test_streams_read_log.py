"""The contract of `tests/contract/streams/test_read_log.py`, over HTTP."""

from tests.contract.streams.test_read_log import *  # noqa: F403
