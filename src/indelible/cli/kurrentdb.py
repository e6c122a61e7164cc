"""`indelible kurrentdb`: a server for the clients of KurrentDB."""

from __future__ import annotations

import logging
from functools import partial
from typing import Annotated

import typer

from indelible import EventStore, InvalidInput

from . import arguments, output
from .run import LogFormat, log_to_stderr

_PORT = 2113


def kurrentdb(
    *,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Serve without TLS and users; on this machine only."),
    ] = False,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            envvar="INDELIBLE_KURRENTDB_HOST",
            show_envvar=True,
            metavar="ADDRESS",
            help="Listen on this address.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port",
            envvar="INDELIBLE_KURRENTDB_PORT",
            show_envvar=True,
            metavar="PORT",
            help="Listen on this port.",
        ),
    ] = _PORT,
    advertise: Annotated[
        str | None,
        typer.Option(
            "--advertise",
            envvar="INDELIBLE_KURRENTDB_ADVERTISE",
            show_envvar=True,
            metavar="HOST:PORT",
            help="Name this address to clients that discover a cluster.",
            show_default="localhost and the port",
        ),
    ] = None,
    log_format: Annotated[
        LogFormat, typer.Option("--log-format", metavar="FORMAT", help="Log as text or json.")
    ] = LogFormat.TEXT,
    log_level: Annotated[
        str, typer.Option("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR.")
    ] = "INFO",
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Serve the store to clients of KurrentDB (EventStoreDB), over gRPC.

    On SIGTERM or Ctrl-C, end the calls. Clients repeat them.
    """
    if not insecure:
        raise InvalidInput(
            "the server has no TLS and no users yet: pass --insecure to serve programs of this"
            " machine without them"
        )
    try:
        from indelible.kurrentdb import KurrentSettings
        from indelible.kurrentdb.run import serve as run
    except ModuleNotFoundError as error:
        raise InvalidInput(
            f"the server needs packages that are not installed ({error.name}): pip install"
            " 'indelible[kurrentdb]'"
        ) from error
    settings = KurrentSettings(host=host, port=port, advertise=advertise, url=url, schema=schema)
    log_to_stderr(log_format, log_level)
    logging.getLogger("grpclib").setLevel(logging.CRITICAL)  # it logs each call that a client ends
    with EventStore.connect(url, schema=schema):  # errors of the database before it listens
        run(settings, ready=partial(_tell_address, log_format))


def _tell_address(log_format: LogFormat, address: str) -> None:
    if log_format == LogFormat.JSON:
        logging.getLogger("indelible.kurrentdb").info(
            "indelible serves", extra={"address": address}
        )
    else:
        output.say(f"indelible serves {address}")
