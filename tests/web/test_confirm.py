"""Typing a name to confirm an action."""

from __future__ import annotations

import pytest

from indelible.server.problems import Problem
from indelible.server.web.confirm import check_typed


@pytest.mark.parametrize("typed", ["bill\u202eing", "bill\\u202eing", "id-1"])
def test_the_name_confirms_as_it_is_and_as_it_is_shown(typed: str) -> None:
    check_typed("bill\u202eing", typed, "id-1")


@pytest.mark.parametrize("typed", ["", "Billing", "billing ", "billin", "\u202ebilling"])
def test_no_other_text_confirms(typed: str) -> None:
    with pytest.raises(Problem) as caught:
        check_typed("billing", typed)
    assert caught.value.status == 422
