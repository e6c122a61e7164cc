"""The contract of `tests/contract/dcb/test_decide.py`, over HTTP."""

from tests.contract.dcb.test_decide import *  # noqa: F403
