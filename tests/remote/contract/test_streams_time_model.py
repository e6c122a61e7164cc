"""The contract of `tests/contract/streams/test_time_model.py`, over HTTP."""

from tests.contract.streams.test_time_model import *  # noqa: F403
