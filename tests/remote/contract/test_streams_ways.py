"""The contract of `tests/contract/streams/test_ways.py`, over HTTP."""

from tests.contract.streams.test_ways import *  # noqa: F403
