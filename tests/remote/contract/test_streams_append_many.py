"""The contract of `tests/contract/streams/test_append_many.py`, over HTTP."""

from tests.contract.streams.test_append_many import *  # noqa: F403
