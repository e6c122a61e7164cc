"""Options that several commands share, how help shows them, and how errors name them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from indelible import ANY, NO_STREAM, STREAM_EXISTS, InvalidInput
from indelible.events import ExpectedVersion


class _NamedValues:
    """Help that names each value (`--url URL`, `STREAM`, optional `[STREAM]`), and no flag's."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]  # type: ignore[misc]

    def get_params(self, ctx: Any) -> list[Any]:
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in found:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
            elif parameter.param_type_name == "argument":
                parameter.display_type_rich = _no_type
        return found


def _no_type(ctx: Any) -> str:
    return ""


class _Group(_NamedValues, TyperGroup):
    pass


class Commands(typer.Typer):
    """Commands whose errors name an option as it is typed, and point to their help."""

    def __init__(self, help: str = "", **options: Any) -> None:  # noqa: A002
        if help:  # else the docstring of the callback is the help
            options["help"] = help
        super().__init__(cls=_Group, no_args_is_help=True, rich_markup_mode="markdown", **options)

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        """Register a command; see `typer.Typer.command`."""
        return super().command(name, cls=_Command, **options)


class _Command(_NamedValues, TyperCommand):
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
        metavar="URL",
        help="Use this database: postgresql://… or embedded://[/folder].",
        show_default="an embedded PostgreSQL",
    ),
]
Schema = Annotated[
    str,
    typer.Option(
        "--schema",
        envvar="INDELIBLE_SCHEMA",
        metavar="SCHEMA",
        help="Use the store in this schema.",
    ),
]
OtherSchema = Annotated[
    str | None,
    typer.Option(
        "--schema",
        envvar="INDELIBLE_SCHEMA",
        metavar="SCHEMA",
        help="Use this schema instead of the application's.",
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON object per line; positions and versions are strings."
    ),
]
Backwards = Annotated[bool, typer.Option("--backwards", help="Start with the last event.")]
Limit = Annotated[
    int | None, typer.Option("--limit", "-n", metavar="N", help="Show at most N events.")
]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="TYPE", help="Only this event type; repeat it to add types."),
]
Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        metavar="KEY:VALUE",
        help="Only events with this tag; repeat it to require several.",
    ),
]
Channel = Annotated[
    str | None, typer.Option("--channel", metavar="CHANNEL", help="Only this channel.")
]
Stream = Annotated[str | None, typer.Option("--stream", metavar="STREAM", help="Only this stream.")]
StreamPrefix = Annotated[
    str | None,
    typer.Option("--stream-prefix", metavar="PREFIX", help="Only streams that start with PREFIX."),
]
EVENTS_HELP = "Find the event classes here: an events= value, or an application."
Events = Annotated[str | None, typer.Option("--events", metavar="MODULE:NAME", help=EVENTS_HELP)]
EXPECTED_HELP = "Require this stream version: a number, no-stream, stream-exists or any."
Expected = Annotated[str, typer.Option("--expected", "-e", metavar="VERSION", help=EXPECTED_HELP)]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="TIME",
        help="Show what was known then: ISO 8601, words (last monday), a position or a checkpoint.",
    ),
]
ValidAt = Annotated[
    str | None,
    typer.Option(
        "--valid-at",
        metavar="TIME",
        help="Show what is valid then: ISO 8601, or words (2 hours ago).",
    ),
]
UpTo = Annotated[
    int | None,
    typer.Option(
        "--position",
        metavar="POSITION",
        help="Wait for this position.",
        show_default="the head at the start",
    ),
]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", help="Wait at most this long.")
]
All = Annotated[bool, typer.Option("--all", help="All parked events.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


_EXPECTATIONS = {"any": ANY, "no-stream": NO_STREAM, "stream-exists": STREAM_EXISTS}


def expected_version(text: str) -> int | ExpectedVersion:
    """Read an expected version.

    Raises:
        InvalidInput: it is not an expected version.
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
    """Ask before something that cannot be undone. Without a terminal --yes is required.

    Raises:
        InvalidInput: standard input is not a terminal.
        Abort: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInput(f"{question} Not a terminal: pass --yes to confirm")
    typer.confirm(question, abort=True)
