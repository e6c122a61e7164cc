"""The contract of `tests/contract/streams/test_metadata.py`, over HTTP."""

from tests.contract.streams.test_metadata import *  # noqa: F403
