"""The contract of `tests/contract/streams/test_read.py`, over HTTP."""

from tests.contract.streams.test_read import *  # noqa: F403
