"""The command `indelible`: its subcommands and its exit codes."""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from typing import Annotated

import typer

from indelible import ConnectionLost, IndelibleError, InvalidInput, StreamNotFound
from indelible.errors import (
    AppendRejected,
    DatabaseUnreachable,
    EmbeddedUnavailable,
    GroupExists,
    GroupNotFound,
    ProjectionNotFound,
    SchemaError,
    StreamNotClosed,
    TokenNotFound,
    WaitTimeout,
)

from . import (
    append,
    arguments,
    demo,
    events,
    groups,
    kurrentdb,
    output,
    projections,
    read,
    run,
    serve,
    store,
    streams,
    tokens,
    types,
)
from .output import ReaderGone, fail

# ClickException, wherever this version of typer has it from.
_UsageError = typer.BadParameter.__mro__[2]

app: arguments.Commands = arguments.Commands(
    name="indelible",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("append")(append.append)
app.command("read")(read.read)
app.command("log")(read.log)
app.command("run")(run.run)
app.command("serve")(serve.serve)
app.command("kurrentdb")(kurrentdb.kurrentdb)
app.command("demo")(demo.demo)
app.add_typer(store.app, name="store")
app.add_typer(streams.app, name="streams")
app.add_typer(events.app, name="events")
app.add_typer(types.app, name="types")
app.add_typer(groups.app, name="groups")
app.add_typer(projections.app, name="projections")
app.add_typer(tokens.app, name="tokens")


def _show_version(wanted: bool) -> None:
    if wanted:
        from indelible import __version__

        typer.echo(f"indelible {__version__}")
        raise typer.Exit


@app.callback()
def _indelible(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            callback=_show_version,
            is_eager=True,
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Append to an event store, read it and administer it.

    The database is `--url`, else `$INDELIBLE_URL`, else an embedded PostgreSQL.

    Exit codes: 0 success · 1 refused (wrong expected version, duplicate event, missing stream,
    group or event), check failed, or wait timed out · 2 wrong usage or input · 3 database
    unreachable · 4 no store in the schema, or another version of it · 5 other failure · 130
    interrupted.
    """


def main() -> None:
    """Run the command, and end the process: errors are one line, never a traceback."""
    output.prepare_streams()
    # Commands that have no projections' code append nothing that inline ones take.
    for name in ("psycopg.pool", "indelible.projections.inline"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    sys.exit(_run())


def _run() -> int:
    try:
        result = app(prog_name="indelible", standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except ReaderGone:
        code = 0
    except IndelibleError as error:
        code = fail(str(error), exit_code(error))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NOT_WRITTEN:
            code = _not_written(error)
        else:
            code = _unexpected(error)
    try:
        sys.stdout.flush()
    except OSError as error:
        # What cannot be written Python would try to write once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code or _not_written(error)
    return code


_NOT_WRITTEN = (errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EPIPE)


def _not_written(error: OSError) -> int:
    # Whoever reads our output has had enough, as `head` has.
    if isinstance(error, BrokenPipeError):
        return 0
    return fail(f"cannot write the output: {error.strerror or error}", 5)


def _unexpected(error: Exception) -> int:
    if isinstance(error, _UsageError):
        message = error.format_message()  # type: ignore[attr-defined]
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "indelible"
        # Without a command there is no message: the help has been shown.
        return fail(f"{message.rstrip('.')}. See {command} --help", 2) if message else 2
    *_, place = traceback.extract_tb(error.__traceback__)
    return fail(
        f"{type(error).__name__}: {error} (in {place.filename}, line {place.lineno}): a bug in the"
        " command, or in your code that it runs",
        5,
    )


def exit_code(error: IndelibleError) -> int:
    """The exit code that an error ends the command with."""
    match error:
        case (
            AppendRejected()
            | StreamNotFound()
            | StreamNotClosed()
            | GroupExists()
            | GroupNotFound()
            | ProjectionNotFound()
            | TokenNotFound()
            | WaitTimeout()
        ):
            return 1
        case InvalidInput():
            return 2
        case DatabaseUnreachable() | ConnectionLost() | EmbeddedUnavailable():
            return 3
        case SchemaError():
            return 4
        case _:
            return 5
