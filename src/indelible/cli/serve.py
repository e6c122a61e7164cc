"""`indelible serve`: a server for services in any language."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from indelible import EventStore, InvalidInput

from . import arguments, output
from .run import LogFormat, log_to_stderr

_PORT = 7373


def serve(
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
    schema: arguments.OtherSchema = None,
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
    log_to_stderr(log_format, log_level)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    settings = ServerSettings(
        host=host,
        port=port,
        url=url,
        schema=schema,
        requires_token=True if auth else False if no_auth else None,
        allowed_hosts=tuple(allowed_host or ()),
        tls_cert=tls_cert,
        tls_key=tls_key,
        trusted_proxies=tuple(trusted_proxy or ()),
    )
    if demo:
        from indelible.examples.food_delivery.program import fill

        output.say(f"the food delivery example has stored {fill(url, schema):,} events")
    with EventStore.connect(url, schema=schema):  # errors of the database before it listens
        output.say(f"indelible serves {settings.address}/api/v1")
        run(settings)
