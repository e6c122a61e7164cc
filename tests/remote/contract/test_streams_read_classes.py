"""The contract of `tests/contract/streams/test_read_classes.py`, over HTTP."""

from tests.contract.streams.test_read_classes import *  # noqa: F403
