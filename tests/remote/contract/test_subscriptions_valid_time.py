"""The contract of `tests/contract/subscriptions/test_valid_time.py`, over HTTP."""

from tests.contract.subscriptions.test_valid_time import *  # noqa: F403
