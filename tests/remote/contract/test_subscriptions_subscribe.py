"""The contract of `tests/contract/subscriptions/test_subscribe.py`, over HTTP."""

from tests.contract.subscriptions.test_subscribe import *  # noqa: F403
