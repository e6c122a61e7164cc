"""The contract of `tests/contract/serialization/test_upcasting.py`, over HTTP."""

from tests.contract.serialization.test_upcasting import *  # noqa: F403
