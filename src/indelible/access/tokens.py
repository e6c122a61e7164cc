"""Operations: create, find, list and revoke tokens.

A token is `ind_ID_SECRET`. The database has the SHA-256 of the secret only. A secret has 256 random
bits, so that a slow hash would not make it harder to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from indelible.core.operation import Operation, Statement
from indelible.core.validation import validate_name
from indelible.errors import InvalidInput, TokenNotFound

from .rights import Grant, Principal, verbs_of

_TEXT = re.compile(r"ind_([a-z2-7]{8})_([A-Za-z0-9_-]{43})")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_LONGEST = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token, without its secret.

    Attributes:
        id: the part of the token that names it.
        name: who or what has it.
        grants: what it allows.
        created_at: when it was created (UTC).
        created_by: the database role that created it.
        expires_at: when it expires (UTC); None for never.
        revoked_at: when it was revoked (UTC); None if it was not.
        last_used_at: when a server last accepted it, to the minute (UTC); None for never.
    """

    id: str
    name: str
    grants: Sequence[Grant]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just created.

    Attributes:
        text: the token. It cannot be shown again.
        info: all about it but its secret.
    """

    text: str
    info: TokenInfo

    def __repr__(self) -> str:
        return f"NewToken(text='ind_{self.info.id}_…', info={self.info!r})"


def create_token(
    name: str,
    *,
    can: str | Sequence[str],
    channels: str | Sequence[str] = (),
    stream_prefixes: str | Sequence[str] = (),
    expires_in: timedelta | None = None,
) -> Operation[NewToken]:
    """Create a token; see `EventStore.create_token`."""
    validate_name("name", name)
    grants = _grants(can, channels, stream_prefixes)
    if expires_in is not None and not timedelta(0) < expires_in <= _LONGEST:
        raise InvalidInput(
            f"expires_in must be more than 0 and at most 100 years, not {expires_in!r}"
        )
    token_id = "".join(secrets.choice(_ALPHABET) for _ in range(8))
    secret = secrets.token_urlsafe(32)
    rows = yield Statement(
        "access.create_token",
        {
            "id": token_id,
            "name": name,
            "hash": _hash(secret).hex(),
            "grants": msgspec.json.encode(grants).decode(),
            "seconds": None if expires_in is None else expires_in.total_seconds(),
        },
    )
    return NewToken(f"ind_{token_id}_{secret}", _info(rows[0]))


def tokens() -> Operation[list[TokenInfo]]:
    """Return all tokens; see `EventStore.tokens`."""
    rows = yield Statement("access.tokens", {})
    return [_info(row) for row in rows]


def revoke_token(token_id: str) -> Operation[TokenInfo]:
    """Revoke a token; see `EventStore.revoke_token`."""
    rows = yield Statement("access.revoke_token", {"id": validate_name("id", token_id)})
    if not rows:
        raise TokenNotFound(token_id)
    return _info(rows[0])


def principal_of(text: str) -> Operation[Principal | None]:
    """Return the principal of a token; see `EventStore.principal_of`."""
    parts = _TEXT.fullmatch(text)
    if parts is None:
        return None
    token_id, secret = parts.groups()
    rows = yield Statement("access.find_token", {"id": token_id})
    if not rows:
        return None
    name, stored_hash, grants, is_valid, is_recent = rows[0]
    if not hmac.compare_digest(bytes.fromhex(stored_hash), _hash(secret)) or not is_valid:
        return None
    if not is_recent:
        yield Statement("access.note_use", {"id": token_id})
    return principal_named(token_id, name, grants)


def principal_named(
    token_id: str, name: str, grants: bytes | str, *, session: str | None = None
) -> Principal:
    """Return the principal with a token, from what the database has about it."""
    return Principal(f"token {token_id} ({name})", _decoded(grants), token_id, session)


def _grants(
    can: str | Sequence[str], channels: str | Sequence[str], stream_prefixes: str | Sequence[str]
) -> tuple[Grant, ...]:
    verbs = verbs_of(can)
    return tuple(
        Grant(verbs, channel, prefix)
        for channel in _names("channels", channels)
        for prefix in _names("stream_prefixes", stream_prefixes)
    )


def _names(what: str, given: str | Sequence[str]) -> list[str | None]:
    names = [given] if isinstance(given, str) else list(given)
    return [validate_name(what, name) for name in names] or [None]


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _decoded(grants: bytes | str) -> tuple[Grant, ...]:
    return msgspec.json.decode(grants, type=tuple[Grant, ...])


def _info(row: Sequence[Any]) -> TokenInfo:
    token_id, name, grants, *times = row
    return TokenInfo(token_id, name, _decoded(grants), *times)
