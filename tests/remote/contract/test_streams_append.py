"""The contract of `tests/contract/streams/test_append.py`, over HTTP."""

from tests.contract.streams.test_append import *  # noqa: F403
