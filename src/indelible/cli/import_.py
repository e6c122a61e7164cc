"""`indelible store import`."""

from __future__ import annotations

import codecs
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from indelible import EventStore, InvalidInput
from indelible.bulk_import.operations import Importing
from indelible.errors import rebuild_command
from indelible.serialization.codec import Codec
from indelible.streams.append_input import AppendSettings

from . import arguments, output
from .discovery import registry

_LARGEST_EVENT = 2**28 - 1
"""What PostgreSQL takes: the store that the events come from may have had any limit below."""

_LONGEST_LINE = 2 * _LARGEST_EVENT
_FIRST_PART = 2 * 1024 * 1024
"""A line over this is none, or over the other if it begins as one: the memory stays bounded."""

_GZIP = b"\x1f\x8b"
_ZSTANDARD = b"\x28\xb5\x2f\xfd"


def import_(
    *,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help='NDJSON file, also compressed with gzip or zstd; "-" is standard input.',
        ),
    ],
    keep_recorded_at: Annotated[
        bool,
        typer.Option("--keep-recorded-at", help="Keep the recorded times of the file."),
    ] = False,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="NAME",
            help="Name the origin; ids of events without one are derived from it.",
            show_default="the file's name",
        ),
    ] = None,
    past_inline: Annotated[
        bool,
        typer.Option(
            "--past-inline",
            help="Also import events that inline projections handle; rebuild these afterwards.",
        ),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the lines, without a database.")
    ] = False,
    channel: Annotated[
        str | None,
        typer.Option(
            "--channel",
            metavar="CHANNEL",
            help="Set the channel: the service that owns the streams.",
        ),
    ] = None,
    events: arguments.Events = None,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Import the events of a file, such as one from `store export`.

    Each line is an object with stream, type and data. Optional: id, version, metadata, tags,
    channel, recorded_at, valid_at, erased, life. Keep ids, and check versions. With --events, check
    the data against the event classes and add their tags.

    After an interruption, run it again: stored events are skipped. Other programs can use the store
    meanwhile.
    """
    if source is None and file != "-":
        source = Path(file).name
    known = () if events is None else registry(events)
    with opened(file, "importing") as lines:
        if check:
            importing = Importing(
                AppendSettings(Codec(known), channel, _LARGEST_EVENT), source=source
            )
            count = 0
            for line in lines:
                importing.add((line,))
                count += len(importing.finish())
            typer.echo(
                f"{output.counted(count, 'event')} can be imported; ids and versions are checked"
                " on import"
            )
            return
        with EventStore.connect(
            url, schema=schema, events=known, channel=channel, max_event_bytes=_LARGEST_EVENT
        ) as store:
            result = store.import_events(
                lines, source=source, keep_recorded_at=keep_recorded_at, past_inline=past_inline
            )
    skipped = f", {result.skipped:,} already stored" if result.skipped else ""
    typer.echo(f"{output.counted(result.imported, 'event')} imported{skipped}")
    for name in result.stale:
        typer.echo(
            f"inline projection {name} lacks these events; run {rebuild_command(name)}", err=True
        )


@contextmanager
def opened(file: str, verb: str) -> Iterator[Iterator[bytes]]:
    """The lines of a file, unpacked, with a progress bar on a terminal.

    Args:
        file: its path, or "-" for standard input.
        verb: what is done to them, for the bar.
    """
    with ExitStack() as stack:
        if file == "-":
            given: IO[bytes] = sys.stdin.buffer
            size = None
        else:
            try:
                given = stack.enter_context(Path(file).open("rb"))
            except OSError as error:
                raise InvalidInput(f"cannot read {file}: {error.strerror}") from error
            size = Path(file).stat().st_size or None
        counting = _Counting(given)
        progress = stack.enter_context(_progress(verb, size))
        yield _with_progress(_lines(file, io.BufferedReader(counting, 1 << 16)), counting, progress)


class _Counting(io.RawIOBase):
    """A file that knows how much of it has been read: what is packed has no other place."""

    def __init__(self, opened: IO[bytes]) -> None:
        self._opened = opened
        self.count = 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes."""
        read = self._opened.read1 if hasattr(self._opened, "read1") else self._opened.read
        found: bytes = read(len(buffer))
        buffer[: len(found)] = found
        self.count += len(found)
        return len(found)


def _lines(file: str, opened: io.BufferedReader) -> Iterator[bytes]:
    try:
        unpacked = _unpacked(opened)
        is_first = True
        while line := unpacked.readline(_FIRST_PART):
            if len(line) == _FIRST_PART and not line.endswith(b"\n"):
                if not line.lstrip().startswith(b"{"):
                    raise InvalidInput(f"{file} has a line longer than {_FIRST_PART:,} bytes")
                line += unpacked.readline(_LONGEST_LINE)
                if len(line) > _LONGEST_LINE:
                    raise InvalidInput(f"{file} has a line longer than {_LONGEST_LINE:,} bytes")
            if is_first:
                is_first = False
                if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    raise InvalidInput(
                        f"{file} is in UTF-16; convert it: iconv -f UTF-16 -t UTF-8 {file}"
                    )
                line = line.removeprefix(codecs.BOM_UTF8)
            yield line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InvalidInput(f"{file} is truncated or damaged: {error}") from error
    except OSError as error:
        raise InvalidInput(f"cannot read {file}: {error.strerror or error}") from error
    except Exception as error:
        if type(error).__name__ != "ZstdError":  # its module may not be there
            raise
        raise InvalidInput(f"{file} is truncated or damaged: {error}") from error


class _Zstandard(io.RawIOBase):
    """What zstd has packed, unpacked. The library's own reader takes a cut-off file for a whole."""

    def __init__(self, opened: io.BufferedReader, decompressor: Any) -> None:
        self._opened = opened
        self._decompressor = decompressor
        self._frame: Any = None
        self._packed = self._ready = b""

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Unpack the next bytes."""
        while not self._ready:
            packed = self._packed or self._opened.read1(1 << 14)
            if not packed and self._frame is None:
                return 0
            if not packed:
                raise EOFError("it ends in the middle")
            self._frame = self._frame or self._decompressor.decompressobj()
            self._ready, self._packed = self._frame.decompress(packed), b""
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, None
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count


def _unpacked(opened: io.BufferedReader) -> IO[bytes]:
    """A file as it was before it was packed, recognised by its first bytes."""
    first = opened.peek(len(_ZSTANDARD))
    if first.startswith(_GZIP):
        return gzip.GzipFile(fileobj=opened)  # type: ignore[return-value]
    if first.startswith(_ZSTANDARD):
        try:
            import zstandard
        except ImportError as error:
            raise InvalidInput(
                "the file is compressed with zstd: pip install 'indelible[zstd]', or run"
                " zstd -dc FILE | indelible store import -"
            ) from error
        return io.BufferedReader(_Zstandard(opened, zstandard.ZstdDecompressor()), 1 << 16)
    return opened


@contextmanager
def _progress(verb: str, size: int | None) -> Iterator[Any]:
    """A bar with the share of the file, events a second, and the time left."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    with Progress(
        TextColumn(verb),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[events]:,} events, {task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        progress.add_task(verb, total=size, events=0, rate=0)
        yield progress


def _with_progress(lines: Iterator[bytes], counting: _Counting, progress: Any) -> Iterator[bytes]:
    if progress.disable:
        yield from lines
        return
    task = progress.tasks[0]
    for number, line in enumerate(lines, start=1):
        yield line
        if number % 1_000 == 0:
            rate = number / (task.elapsed or 1)
            progress.update(task.id, completed=counting.count, events=number, rate=rate)
