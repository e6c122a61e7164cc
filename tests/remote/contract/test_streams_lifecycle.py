"""The contract of `tests/contract/streams/test_lifecycle.py`, over HTTP."""

from tests.contract.streams.test_lifecycle import *  # noqa: F403
