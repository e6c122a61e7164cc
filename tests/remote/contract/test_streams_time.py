"""The contract of `tests/contract/streams/test_time.py`, over HTTP."""

from tests.contract.streams.test_time import *  # noqa: F403
