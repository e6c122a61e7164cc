"""Operations: what stands for a token where a browser cannot send one: sessions and tickets.

A browser keeps the text of a session in a cookie. A ticket stands in an address, so it works once,
and for 30 seconds. Both have the rights that their token has at that moment.

Each is a row, so that any process of a server accepts it, also after a restart, and so that a
session can be ended. A signed text would need no row. But it could not be used up or ended, and who
reads a copy of the database would have the key. A row has the SHA-256 of the text only.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from indelible.core.operation import Operation, Statement

from .rights import Principal
from .tokens import principal_named

_LASTS = timedelta(hours=12)
_TICKET_LASTS = timedelta(seconds=30)
_TEXT = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session or a ticket that was just created.

    Attributes:
        text: its text, which is nowhere else.
        expires_at: when it expires (UTC), at the latest with its token.
    """

    text: str = field(repr=False)
    expires_at: datetime


def create_session(token_id: str) -> Operation[NewSession | None]:
    """Create a session of a token; None if the token is not valid any more."""
    return _create(token_id, _LASTS, for_once=False)


def create_ticket(token_id: str) -> Operation[NewSession | None]:
    """Create a ticket of a token; None if the token is not valid any more."""
    return _create(token_id, _TICKET_LASTS, for_once=True)


def principal_of_session(text: str) -> Operation[Principal | None]:
    """Return the principal of a session; None if there is no such session, or it has ended."""
    if not _TEXT.fullmatch(text):
        return None
    hashed = hash_of(text)
    rows = yield Statement("access.find_session", {"hash": hashed})
    if not rows:
        return None
    token_id, name, grants, is_recent = rows[0]
    if not is_recent:
        yield Statement("access.note_use", {"id": token_id})
    return principal_named(token_id, name, grants, session=hashed)


def redeem_ticket(text: str) -> Operation[Principal | None]:
    """Use a ticket up, and return its principal; None if it was used before, or has expired."""
    if not _TEXT.fullmatch(text):
        return None
    rows = yield Statement("access.redeem_ticket", {"hash": hash_of(text)})
    return principal_named(*rows[0]) if rows else None


def end_session(hashed: str) -> Operation[None]:
    """End a session.

    Args:
        hashed: the hash of its text, as in `Principal.session`.
    """
    yield Statement("access.end_session", {"hash": hashed})


def valid_access(token_ids: Iterable[str], sessions: Iterable[str]) -> Operation[set[str]]:
    """Return which of some tokens and sessions are valid.

    Args:
        token_ids: ids of tokens.
        sessions: hashes of sessions, as in `Principal.session`.
    """
    rows = yield Statement(
        "access.valid_access", {"tokens": list(token_ids), "sessions": list(sessions)}
    )
    return {found for (found,) in rows}


def hash_of(text: str) -> str:
    """Return the hash by which a session or a ticket is found."""
    return hashlib.sha256(text.encode()).hexdigest()


def _create(token_id: str, lasts: timedelta, *, for_once: bool) -> Operation[NewSession | None]:
    text = secrets.token_urlsafe(32)
    rows = yield Statement(
        "access.create_session",
        {
            "hash": hash_of(text),
            "token": token_id,
            "for_once": for_once,
            "seconds": lasts.total_seconds(),
        },
    )
    expires_at = rows[0][0]
    return None if expires_at is None else NewSession(text, expires_at)
