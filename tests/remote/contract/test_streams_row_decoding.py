"""The contract of `tests/contract/streams/test_row_decoding.py`, over HTTP."""

from tests.contract.streams.test_row_decoding import *  # noqa: F403
