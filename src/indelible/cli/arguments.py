"""Options that several commands have, and how a command names them in errors."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from indelible import ANY, NO_STREAM, STREAM_EXISTS, InvalidInput
from indelible.events import ExpectedVersion


class Commands(typer.Typer):
    """Commands whose errors name an option as it is typed, and point to their help."""

    def __init__(self, help: str | None = None, **options: Any) -> None:  # noqa: A002
        super().__init__(no_args_is_help=True, rich_markup_mode="markdown", help=help, **options)

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        """Register a command; see `typer.Typer.command`."""
        return super().command(name, cls=_Command, **options)


class _Command(TyperCommand):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InvalidInput as error:
            if type(error) is not InvalidInput:
                raise
            message = self._as_typed(str(error))
            raise InvalidInput(f"{message}. See {ctx.command_path} --help") from error

    def _as_typed(self, message: str) -> str:
        """Name the option with which the text of an error begins as it is typed."""
        name = re.match(r"\w*", message)
        for parameter in self.params:
            if name is not None and parameter.name == name.group():
                typed = max(parameter.opts, key=len)
                typed = typed if typed.startswith("-") else typed.upper()
                return typed + message[name.end() :]
        return message


Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="INDELIBLE_URL",
        show_envvar=True,
        help="Where the database is: postgresql://… or embedded://[/folder].",
        show_default="an embedded PostgreSQL",
    ),
]
Schema = Annotated[
    str,
    typer.Option("--schema", envvar="INDELIBLE_SCHEMA", help="The schema that the store is in."),
]
OtherSchema = Annotated[
    str | None,
    typer.Option(
        "--schema", envvar="INDELIBLE_SCHEMA", help="Another schema than the application's."
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON object a line; positions and versions are text.")
]
Backwards = Annotated[bool, typer.Option("--backwards", help="The last event first.")]
Limit = Annotated[int | None, typer.Option("--limit", "-n", help="How many at most.")]
Types = Annotated[
    list[str] | None, typer.Option("--type", help="Only events of this type, or these types.")
]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", help="Only events with this tag, or all these.")
]
Channel = Annotated[str | None, typer.Option("--channel", help="Only this channel.")]
StreamPrefix = Annotated[
    str | None, typer.Option("--stream-prefix", help="Only streams that start with this.")
]
EVENTS_HELP = (
    "Where the event classes are: module:name of what events= takes, or of an application."
)
Events = Annotated[str | None, typer.Option("--events", metavar="MODULE:NAME", help=EVENTS_HELP)]
Expected = Annotated[
    str,
    typer.Option(
        "--expected",
        "-e",
        help="What the stream's last version is believed to be: a number, no-stream, stream-exists"
        " or any. Of a file: before its first event of each stream.",
    ),
]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        help="What was known then: ISO 8601, words (last monday), a position or a checkpoint.",
    ),
]
ValidAt = Annotated[
    str | None,
    typer.Option("--valid-at", help="What holds then: ISO 8601, or words (2 hours ago)."),
]
All = Annotated[bool, typer.Option("--all", help="All of them.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


_EXPECTATIONS = {"any": ANY, "no-stream": NO_STREAM, "stream-exists": STREAM_EXISTS}


def expected_version(text: str) -> int | ExpectedVersion:
    """Read an expected version.

    Raises:
        InvalidInput: it is none.
    """
    if text in _EXPECTATIONS:
        return _EXPECTATIONS[text]
    try:
        return int(text)
    except ValueError:
        raise InvalidInput(
            f"--expected must be a version, no-stream, stream-exists or any, not {text!r}"
        ) from None


def confirm(yes: bool, question: str) -> None:
    """Ask before something that cannot be taken back; without a terminal --yes must be given.

    Raises:
        InvalidInput: there is nobody to ask.
        Abort: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInput(f"{question} There is nobody to ask here: say --yes")
    typer.confirm(question, abort=True)
