"""The contract of `tests/contract/admin/test_event_types.py`, over HTTP."""

from tests.contract.admin.test_event_types import *  # noqa: F403
