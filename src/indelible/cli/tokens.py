"""`indelible tokens`: the tokens with which programs use the store through a server."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from indelible import EventStore
from indelible.access import Grant, TokenInfo

from . import arguments, output, timestamps

app: arguments.Commands = arguments.Commands(
    "Create, list and revoke the tokens of programs that use a server."
)

_HEADS = ("TOKEN", "NAME", "MAY", "EXPIRES (UTC)", "LAST USED (UTC)")


@app.command("create")
def create_token(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who or what will have the token.")],
    can: Annotated[
        str,
        typer.Option(
            "--can", metavar="VERBS", help="Allow these: some of read,append,consume,manage."
        ),
    ],
    channel: Annotated[
        list[str] | None,
        typer.Option(
            "--channel", metavar="CHANNEL", help="Only this channel; repeat it to add channels."
        ),
    ] = None,
    stream_prefix: Annotated[
        list[str] | None,
        typer.Option(
            "--stream-prefix",
            metavar="PREFIX",
            help="Only streams that start with PREFIX; repeat it to add prefixes.",
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires", metavar="TIME", help="Expire after this time: 90d, 12 hours, 2 weeks."
        ),
    ] = None,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Create a token, and print it. It cannot be shown again."""
    expires_in = None if expires is None else timestamps.span(expires, "--expires")
    with EventStore.connect(url, schema=schema) as store:
        created = store.create_token(
            name,
            can=can,
            channels=channel or (),
            stream_prefixes=stream_prefix or (),
            expires_in=expires_in,
        )
    if json:
        output.json_lines([{"token": created.text, **_token_json(created.info)}])
        return
    output.say(f"{_rights(created.info)}. It is shown only now:")
    typer.echo(created.text)


@app.command("list")
def list_tokens(
    *,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """List the tokens, also expired and revoked ones."""
    with EventStore.connect(url, schema=schema) as store:
        found = store.tokens()
    if json:
        output.json_lines(map(_token_json, found), if_empty="no tokens")
        return
    output.columns(iter([_HEADS, *map(_token_row, found)]), if_empty="no tokens")


@app.command("revoke")
def revoke_token(
    *,
    token: Annotated[
        str, typer.Argument(metavar="TOKEN", help="Its id: the part between the underscores.")
    ],
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Revoke a token. Servers refuse it within five seconds."""
    with EventStore.connect(url, schema=schema) as store:
        revoked = store.revoke_token(token)
    output.say(f"token {revoked.id} ({revoked.name}) is revoked")


def _token_row(token: TokenInfo) -> tuple[str, ...]:
    if token.revoked_at is not None:
        ends = f"revoked {output.moment(token.revoked_at)}"
    else:
        ends = "never" if token.expires_at is None else output.moment(token.expires_at)
    used = "never" if token.last_used_at is None else output.moment(token.last_used_at)
    return token.id, token.name, _rights(token), ends, used


def _rights(token: TokenInfo) -> str:
    return "; ".join(map(_right, token.grants))


def _right(grant: Grant) -> str:
    verbs = ", ".join(sorted(grant.verbs))
    where = [
        *([] if grant.channel is None else [f"channel {grant.channel}"]),
        *([] if grant.stream_prefix is None else [f"streams {grant.stream_prefix}…"]),
    ]
    return f"{verbs} in {' and '.join(where)}" if where else f"{verbs} everywhere"


def _token_json(token: TokenInfo) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "grants": [
            {
                "can": sorted(grant.verbs),
                "channel": grant.channel,
                "stream_prefix": grant.stream_prefix,
            }
            for grant in token.grants
        ],
        "created_at": token.created_at,
        "created_by": token.created_by,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
        "last_used_at": token.last_used_at,
    }
