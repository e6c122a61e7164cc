"""The contract of `tests/contract/streams/test_epochs.py`, over HTTP."""

from tests.contract.streams.test_epochs import *  # noqa: F403
