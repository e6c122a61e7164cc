"""The contract of `tests/contract/streams/test_model.py`, over HTTP."""

from tests.contract.streams.test_model import *  # noqa: F403
