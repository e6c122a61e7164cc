"""The contract of `tests/contract/dcb/test_examples.py`, over HTTP."""

from tests.contract.dcb.test_examples import *  # noqa: F403
