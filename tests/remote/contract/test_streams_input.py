"""The contract of `tests/contract/streams/test_input.py`, over HTTP."""

from tests.contract.streams.test_input import *  # noqa: F403
