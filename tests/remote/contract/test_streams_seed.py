"""The contract of `tests/contract/streams/test_seed.py`, over HTTP."""

from tests.contract.streams.test_seed import *  # noqa: F403
