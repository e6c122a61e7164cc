"""The contract of `tests/contract/streams/test_append_batch.py`, over HTTP."""

from tests.contract.streams.test_append_batch import *  # noqa: F403
