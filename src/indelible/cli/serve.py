"""`indelible serve`: a server for services in any language."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from indelible import EventStore, InvalidInput
from indelible.app.discovery import find_all

from . import arguments, output
from .run import LogFormat, log_to_stderr

_PORT = 7373


def serve(
    application: Annotated[
        str | None,
        typer.Argument(
            metavar="MODULE[:APP]",
            envvar="INDELIBLE_APP",
            show_envvar=True,
            help="Fold states with the deciders of this module.",
        ),
    ] = None,
    *,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            envvar="INDELIBLE_HOST",
            show_envvar=True,
            metavar="ADDRESS",
            help="Listen on this address. Others than this machine's need tokens.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port",
            envvar="INDELIBLE_PORT",
            show_envvar=True,
            metavar="PORT",
            help="Listen on this port.",
        ),
    ] = _PORT,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Ask for no tokens; on this machine's addresses only.")
    ] = False,
    auth: Annotated[
        bool, typer.Option("--auth", help="Ask for tokens on this machine's addresses, too.")
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-host",
            envvar="INDELIBLE_ALLOWED_HOSTS",
            metavar="NAME",
            help="Answer requests to this name, too; repeat it to add names.",
        ),
    ] = None,
    allowed_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-origin",
            envvar="INDELIBLE_ALLOWED_ORIGINS",
            metavar="ORIGIN",
            help="Let pages of this site use the server; repeat it to add sites.",
        ),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--trusted-proxy",
            envvar="INDELIBLE_TRUSTED_PROXIES",
            metavar="ADDRESS",
            help="Believe the X-Forwarded headers of this address or network; repeat it for more.",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            "--tls-cert",
            envvar="INDELIBLE_TLS_CERT",
            metavar="FILE",
            help="Serve HTTPS with this certificate (PEM).",
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(
            "--tls-key",
            envvar="INDELIBLE_TLS_KEY",
            metavar="FILE",
            help="The key of the certificate (PEM).",
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            envvar="INDELIBLE_WORKERS",
            metavar="N",
            min=1,
            help="Serve with N processes. The limits below hold for each of them.",
        ),
    ] = 1,
    rate: Annotated[
        int | None,
        typer.Option(
            "--rate",
            envvar="INDELIBLE_RATE",
            metavar="N",
            min=0,
            help="Take N requests per second from a token, or an address; 0 is no limit.",
            show_default="1000, and 0 for this machine",
        ),
    ] = None,
    max_connections: Annotated[
        int,
        typer.Option(
            "--max-connections",
            envvar="INDELIBLE_MAX_CONNECTIONS",
            metavar="N",
            min=1,
            help="Hold at most N connections.",
        ),
    ] = 1_000,
    max_streams: Annotated[
        int,
        typer.Option(
            "--max-streams",
            envvar="INDELIBLE_MAX_STREAMS",
            metavar="N",
            min=1,
            help="Send at most N event streams to a token.",
        ),
    ] = 800,
    log_format: Annotated[
        LogFormat, typer.Option("--log-format", metavar="FORMAT", help="Log as text or json.")
    ] = LogFormat.TEXT,
    log_level: Annotated[
        str, typer.Option("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR.")
    ] = "INFO",
    demo: Annotated[
        bool,
        typer.Option("--demo", help="First fill an empty store with the food delivery example."),
    ] = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Serve the store over HTTP, to services in any language.

    On SIGTERM or Ctrl-C, end subscriptions and finish requests.
    """
    if auth and no_auth:
        raise InvalidInput("--auth and --no-auth exclude each other")
    try:
        from indelible.server.run import serve as run
        from indelible.server.settings import ServerSettings
    except ModuleNotFoundError as error:
        raise InvalidInput(
            f"the server needs packages that are not installed ({error.name}): pip install"
            " 'indelible[server]'"
        ) from error
    settings = ServerSettings(
        host=host,
        port=port,
        url=url,
        schema=schema,
        requires_token=True if auth else False if no_auth else None,
        allowed_hosts=tuple(allowed_host or ()),
        allowed_origins=tuple(allowed_origin or ()),
        tls_cert=tls_cert,
        tls_key=tls_key,
        workers=workers,
        rate=rate,
        max_connections=max_connections,
        max_streams=max_streams,
        trusted_proxies=tuple(trusted_proxy or ()),
        app=application,
    )
    if application is not None:
        find_all(application)  # its errors before the demo fills a store
    if demo:
        from indelible.examples.food_delivery.program import fill

        output.say(f"the food delivery example has stored {fill(url, schema):,} events")
    with EventStore.connect(url, schema=schema):  # errors of the database before it listens
        run(
            settings,
            ready=partial(_tell_address, log_format),
            prepare=partial(log_to_stderr, log_format, log_level),
        )


def _tell_address(log_format: LogFormat, address: str) -> None:
    if log_format == LogFormat.JSON:
        logging.getLogger("indelible.server").info(
            "indelible serves", extra={"address": f"{address}/api/v1"}
        )
    else:
        output.say(f"indelible serves {address} (the page) and {address}/api/v1 (HTTP)")
