"""The contract of `tests/contract/consumer_groups/test_groups.py`, over HTTP."""

from tests.contract.consumer_groups.test_groups import *  # noqa: F403
