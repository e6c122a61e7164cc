"""The contract of `tests/contract/streams/test_events.py`, over HTTP."""

from tests.contract.streams.test_events import *  # noqa: F403
