"""The contract of `tests/contract/dcb/test_conditions.py`, over HTTP."""

from tests.contract.dcb.test_conditions import *  # noqa: F403
