"""The contract of `tests/contract/aggregates/test_aggregates.py`, over HTTP."""

from tests.contract.aggregates.test_aggregates import *  # noqa: F403
