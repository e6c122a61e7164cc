"""The contract of `tests/contract/consumer_groups/test_valid_time.py`, over HTTP."""

from tests.contract.consumer_groups.test_valid_time import *  # noqa: F403
