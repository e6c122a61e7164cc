"""Forms: a field binds each to the session of its reader."""

from __future__ import annotations

import hashlib
import hmac

from indelible.access import Principal


def form_token(principal: Principal | None) -> str:
    """Return the value of the hidden field `csrf`.

    Without a session there is nothing that a page elsewhere could make a browser send. Then the
    origin of the request decides alone.
    """
    if principal is None or principal.session is None:
        return ""
    return hmac.new(principal.session.encode(), b"form", hashlib.sha256).hexdigest()


def is_own_form(principal: Principal | None, given: str) -> bool:
    """Return whether a form was made for this reader."""
    return hmac.compare_digest(form_token(principal).encode(), given.encode())
