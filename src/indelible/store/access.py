# Generated from access_async.py; do not edit.
"""Store methods for tokens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from indelible.access import tokens
from indelible.access.rights import Principal
from indelible.access.tokens import NewToken, TokenInfo

from .base import PooledStoreBase


class AccessMethods(PooledStoreBase):
    """The methods of an `EventStore` for the tokens of a server."""

    def create_token(
        self,
        name: str,
        *,
        can: str | Sequence[str],
        channels: str | Sequence[str] = (),
        stream_prefixes: str | Sequence[str] = (),
        expires_in: timedelta | None = None,
    ) -> NewToken:
        """Create a token, with which a program uses the store through a server.

        The store keeps a hash of the token. So the token is in the result only.

        Args:
            name: who or what will have it, for lists and the audit log.
            can: what it allows: some of `read`, `append`, `consume` and `manage`.
            channels: only streams of these channels; empty for all.
            stream_prefixes: only streams whose names start with one of these; empty for all.
            expires_in: how long it is valid; None for ever.

        Returns:
            The token, and its description.

        Raises:
            InvalidInput: an argument is not valid.
            PermissionDenied: the database role may not create tokens.

        Example:
            ```python
            created = store.create_token(
                "delivery service",
                can=["append", "read"],
                channels="delivery",
                expires_in=timedelta(days=90),
            )
            print(created.text)
            ```
        """
        return self._engine.run(
            tokens.create_token(
                name,
                can=can,
                channels=channels,
                stream_prefixes=stream_prefixes,
                expires_in=expires_in,
            )
        )

    def tokens(self) -> list[TokenInfo]:
        """Return all tokens, also expired and revoked ones, in the order of their creation.

        Raises:
            PermissionDenied: the database role may not list tokens.
        """
        return self._engine.run(tokens.tokens())

    def revoke_token(self, token_id: str) -> TokenInfo:
        """Revoke a token. Servers refuse it within five seconds.

        Revoking a revoked token changes nothing.

        Args:
            token_id: the id of the token, the part between its underscores.

        Returns:
            The revoked token.

        Raises:
            TokenNotFound: there is no such token.
            PermissionDenied: the database role may not revoke tokens.
        """
        return self._engine.run(tokens.revoke_token(token_id))

    def principal_of(self, token: str) -> Principal | None:
        """Return who has a token, and what they may do.

        Args:
            token: the whole token.

        Returns:
            The principal; None if there is no such token, or it has expired or was revoked.
        """
        return self._engine.run(tokens.principal_of(token))
