"""Tokens: who has which rights. Only for those who have all rights themselves."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import msgspec
from starlette.responses import Response

from indelible import InvalidInput
from indelible.access import TokenInfo, Verb
from indelible.server.problems import Problem
from indelible.server.routing import Call

from . import confirm, rendering
from .page import not_here, page, see


class TokensQuery(msgspec.Struct, kw_only=True):
    """What was done, to tell it."""

    done: str | None = None


class TokenForm(msgspec.Struct, kw_only=True):
    """A token to create."""

    name: str = ""
    read: str = ""
    append: str = ""
    consume: str = ""
    manage: str = ""
    channel: str = ""
    prefix: str = ""
    days: Annotated[int, msgspec.Meta(ge=1, le=36_500)] | None = None


class TokenId(msgspec.Struct, kw_only=True):
    """A token."""

    id: str


class RevokeForm(msgspec.Struct, kw_only=True):
    """A token to revoke."""

    id: str
    typed: str = ""


@page("GET", "/tokens", query=TokensQuery)
async def show_tokens(call: Call[TokensQuery, None]) -> Response:
    """List the tokens, with a form for another one."""
    return await _list(call, done="revoked" if call.query.done == "revoked" else None)


@page("POST", "/tokens", body=TokenForm)
async def create_token(call: Call[Any, TokenForm]) -> Response:
    """Create a token, and show it once."""
    _check(call)
    form = call.body
    try:
        created = await call.store.create_token(
            form.name,
            can=[verb for verb in Verb if getattr(form, verb.value)],
            channels=[form.channel] if form.channel else (),
            stream_prefixes=[form.prefix] if form.prefix else (),
            expires_in=None if form.days is None else timedelta(days=form.days),
        )
    except InvalidInput as error:
        raise Problem(422, "invalid-input", f"The token was not created: {error}.") from None
    return await _list(call, created=created.text, name=created.info.name)


@page("GET", "/tokens/revoke", query=TokenId)
async def confirm_revoke(call: Call[TokenId, None]) -> Response:
    """Ask whether to revoke a token."""
    token = await _token(call, call.query.id)
    return confirm.ask(
        call,
        f"Revoke {token.name}",
        "/tokens/revoke",
        "Servers refuse the token within five seconds, and end its sessions and event streams.",
        "This cannot be undone.",
        verb="Revoke",
        seen={"id": token.id},
        type_name=token.name,
        back="/tokens",
        nav="tokens",
    )


@page("POST", "/tokens/revoke", body=RevokeForm)
async def revoke_token(call: Call[Any, RevokeForm]) -> Response:
    """Revoke a token."""
    token = await _token(call, call.body.id)
    confirm.check_typed(token.name, call.body.typed, token.id)
    await call.store.revoke_token(token.id)
    return see("/tokens", done="revoked")


pages = [show_tokens, create_token, confirm_revoke, revoke_token]


def _check(call: Call[Any, Any]) -> None:
    if not call.principal.may_everything:
        raise not_here("There is nothing here that your token may read.")


async def _token(call: Call[Any, Any], token_id: str) -> TokenInfo:
    _check(call)
    for token in await call.store.tokens():
        if token.id == token_id:
            return token
    raise not_here(f"No token “{token_id}”.")


async def _list(
    call: Call[Any, Any], *, created: str | None = None, name: str = "", done: str | None = None
) -> Response:
    _check(call)
    return rendering.render(
        call.request,
        "tokens.html",
        title="Tokens",
        nav="tokens",
        tokens=await call.store.tokens(),
        created=created,
        name=name,
        done=done,
        is_open=not call.settings.is_guarded,
    )
