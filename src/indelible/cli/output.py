"""Print results: tables for people, JSON for programs."""

from __future__ import annotations

import codecs
import io
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import chain, islice
from typing import Any

import msgspec

from indelible import RecordedEvent
from indelible.streams import StreamInfo

_MEASURED = 200
"""How many rows the widths of the columns are taken from; those after them keep to these."""

_DATA_WIDTH = 20
"""A last column that is as wide is text, which may be wrapped."""

_TALLEST = 4
"""Into how many lines a last column is wrapped beside the others; what needs more stands below."""

_INDENT = "    "

_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

_NUMERIC = frozenset(
    (
        *("POSITION", "VERSION", "STREAMS", "EVENTS", "CHECKPOINT", "LAG", "LAG (S)", "WORKERS"),
        *("RETRIED", "PARKED", "QUEUED", "TOKEN", "SLICES", "ATTEMPTS"),
        *("EVENTS/S", "ERRORS", "PARTITION"),
    )
)

LIVE_WIDTHS = (9, 19, 18, 7, 16, 0)
"""How wide columns of events are while they are still to come; the last takes the rest."""

wrap: partial[list[str]] = partial(
    textwrap.wrap,
    break_on_hyphens=False,
    drop_whitespace=False,
    expand_tabs=False,
    replace_whitespace=False,
)
"""Wrap a text between words; no character of it is lost."""

_encode = msgspec.json.Encoder().encode


def encode(value: Any) -> str:
    """Give a value as JSON."""
    return _encode(value).decode()


class ReaderGone(Exception):
    """Whoever read our output has had enough, as `head` has."""


def _print(line: str) -> None:
    try:
        sys.stdout.write(line + "\n")
    except BrokenPipeError:
        # Said in our own words: typer would make a failure of it.
        raise ReaderGone from None


def fail(message: str, code: int = 1) -> int:
    """Print an error in one line; return the exit code."""
    with suppress(OSError):  # there is no place left to say it
        sys.stderr.write(f"indelible: {' '.join(message.split())}\n")
        sys.stderr.flush()
    return code


def prepare_streams() -> None:
    """Have the standard streams there and take all characters, whatever the shell has made of them.

    One that is closed is the null device: else the next file or connection would get its number.
    Characters that the encoding of the output lacks are written as JSON writes them.
    """
    codecs.register_error(_ESCAPE, _escaped)
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPE)


_ESCAPE = "indelible.escape"


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)), error.end


def flush_each_line() -> None:
    """Show each line at once, also to a pipe."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def counted(count: int, noun: str) -> str:
    """Give a count with its noun: `1 event`, `2,000 events`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def say(message: str) -> None:
    """Tell people something beside the result: on standard error."""
    sys.stderr.write(f"{visible(message)}\n")


def json_lines(values: Iterable[dict[str, Any]], *, if_empty: str | None = None) -> None:
    """Print one JSON object per line: in UTF-8, or in ASCII if the output has another encoding.

    Args:
        values: the objects.
        if_empty: what to say on standard error if there are none.
    """
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and codecs.lookup(out.encoding).name != "utf-8":
        out.reconfigure(encoding="ascii", errors=_ESCAPE)
    is_empty = True
    for value in values:
        is_empty = False
        _print(_encode(value).decode())
    if is_empty and if_empty is not None:
        say(if_empty)


def event_json(event: RecordedEvent) -> dict[str, Any]:
    """Give an event as JSON has it.

    Positions and versions are text, since some readers of JSON hold numbers in 53 bits.
    """
    return {
        "position": str(event.position),
        "stream": event.stream,
        "version": str(event.version),
        "id": event.id,
        "type": event.type,
        "channel": event.channel,
        "data": None if event.is_erased else event.data,
        **({"erased": True} if event.is_erased else {}),
        "metadata": event.metadata,
        "tags": event.tags,
        "recorded_at": event.recorded_at,
        "valid_at": event.valid_at,
    }


def stream_json(stream: StreamInfo) -> dict[str, Any]:
    """A stream as JSON has it."""
    return {
        "stream": stream.stream,
        "channel": stream.channel,
        "version": str(stream.version),
        "position": str(stream.position),
        "created_at": stream.created_at,
        "recorded_at": stream.recorded_at,
        "closed_at": stream.closed_at,
        "archived_at": stream.archived_at,
        "erased_at": stream.erased_at,
    }


def event_rows(
    events: Iterable[RecordedEvent], *, of_one_stream: bool, by_valid_time: bool = False
) -> Iterator[Sequence[str]]:
    """The columns of events for people."""
    yield (
        "VERSION" if of_one_stream else "POSITION",
        "RECORDED (UTC)",
        *(("VALID (UTC)",) if by_valid_time else ()),
        *(() if of_one_stream else ("STREAM", "VERSION")),
        "TYPE",
        "DATA",
    )
    for event in events:
        yield (
            str(event.version if of_one_stream else event.position),
            moment(event.recorded_at),
            *((moment(event.valid_at),) if by_valid_time else ()),
            *(() if of_one_stream else (event.stream, str(event.version))),
            event.type,
            "(erased)" if event.is_erased else _encode(event.data).decode(),
        )


def stream_rows(streams: Iterable[StreamInfo]) -> Iterator[Sequence[str]]:
    """The columns of streams for people."""
    yield "STREAM", "CHANNEL", "VERSION", "LAST RECORDED (UTC)"
    for stream in streams:
        yield stream.stream, stream.channel, str(stream.version), moment(stream.recorded_at)


def columns(
    rows: Iterator[Sequence[str]],
    *,
    widths: Sequence[int] | None = None,
    if_empty: str | None = None,
) -> None:
    """Print a table. The first row holds the headings.

    Numbers are aligned to the right. Nothing is ever cut. On a terminal the last column is wrapped;
    if the other columns are too wide for the terminal, each row becomes a block of lines. Elsewhere
    each row is one line, however long.

    Args:
        rows: the rows.
        widths: the widths of the columns, if the rows are yet to come and cannot be measured.
        if_empty: what to say on standard error, instead of the headings, if there are no rows.
    """
    measured = _MEASURED if widths is None else 1
    first = [[visible(cell) for cell in row] for row in islice(rows, measured)]
    heads = first[0]
    if if_empty is not None and len(first) == 1:
        say(if_empty)
        return
    is_live = widths is not None
    widths = list(widths or [max(map(len, column)) for column in zip(*first, strict=True)])
    numeric = [head in _NUMERIC for head in heads]
    edge = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    room = edge - sum(widths[:-1]) - 2 * len(widths[:-1])
    is_block = not is_live and room < (widths[-1] if widths[-1] < _DATA_WIDTH else 0)
    rest = ([visible(cell) for cell in row] for row in rows)
    for row in chain(first[is_block:], rest):
        if is_block:
            _print_block(heads, row, edge)
            continue
        *others, last = (
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, numeric, strict=True)
        )
        line, last = "  ".join(others), last.rstrip()
        left = edge - len(line) - 2
        if len(last) <= left:
            _print(f"{line}  {last}".rstrip())
        elif len(last) <= _TALLEST * left:
            below = " " * (len(line) + 2)
            _print_all(wrap(last, edge, initial_indent=f"{line}  ", subsequent_indent=below))
        else:
            _print_all(wrap(line.rstrip(), edge, subsequent_indent=_INDENT))
            _print_all(wrap(last, edge, initial_indent=_INDENT, subsequent_indent=_INDENT))


def _print_block(heads: Sequence[str], row: Sequence[str], edge: int) -> None:
    """Print a row in several lines: each cell after its head, the last in lines of its own."""
    *pairs, last = (f"{head} {cell}" if cell else "" for head, cell in zip(heads, row, strict=True))
    line = ""
    for pair in filter(None, pairs):
        if line and len(line) + 2 + len(pair) > edge:
            _print(line)
            line = f"{_INDENT}{pair}"
        else:
            line = f"{line}  {pair}" if line else pair
    _print(line)
    _print_all(wrap(last, edge, initial_indent=_INDENT, subsequent_indent=_INDENT))


def _print_all(lines: Iterable[str]) -> None:
    for line in lines:
        _print(line)


def visible(text: str) -> str:
    """Show what a terminal would act upon: stored text must not move its cursor."""
    return _UNSEEN.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def moment(when: datetime) -> str:
    """A moment for people, to the second on a terminal, where room is short."""
    precision = "seconds" if sys.stdout.isatty() else "milliseconds"
    return when.isoformat(sep=" ", timespec=precision).removesuffix("+00:00")
