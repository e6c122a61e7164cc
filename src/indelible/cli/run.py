"""`indelible run`: an application's handlers and projections in a worker process."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import msgspec
import typer

from indelible import App, AsyncApp, InvalidInput
from indelible.app.discovery import find_application

from . import arguments

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LogFormat(StrEnum):
    """The format of log lines."""

    TEXT = "text"
    JSON = "json"


def run(
    *,
    application: Annotated[str, typer.Argument(metavar="MODULE:APP", help="Application to run.")],
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency", "-c", metavar="N", help="Handle N events per group at the same time."
        ),
    ] = None,
    report_interval: Annotated[
        float,
        typer.Option("--report-interval", metavar="SECONDS", help="Log a report this often."),
    ] = 30.0,
    shutdown_timeout: Annotated[
        float,
        typer.Option(
            "--shutdown-timeout", metavar="SECONDS", help="Wait this long for handlers on shutdown."
        ),
    ] = 30.0,
    log_format: Annotated[
        LogFormat, typer.Option("--log-format", metavar="FORMAT", help="Log as text or json.")
    ] = LogFormat.TEXT,
    log_level: Annotated[
        str,
        typer.Option(
            "--log-level", metavar="LEVEL", help="DEBUG logs each event; INFO logs the reports."
        ),
    ] = "INFO",
    url: arguments.Url = None,
    schema: arguments.OtherSchema = None,
) -> None:
    """Run an application's handlers and projections in a worker process.

    On SIGTERM or Ctrl-C, start no new events, finish those in progress and release the rest. On
    a second signal, end immediately.
    """
    log_to_stderr(log_format, log_level)
    found = find_application(application)
    if concurrency is not None:
        if concurrency < 1:
            raise InvalidInput(f"--concurrency must be 1 or more, not {concurrency}")
        found.concurrency = concurrency
    if isinstance(found, App):
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: _stop(number, stop.set))
        found.run(
            stop,
            url=url,
            schema=schema,
            report_interval=report_interval,
            shutdown_timeout=shutdown_timeout,
        )
    else:
        asyncio.run(_run_async(found, url, schema, report_interval, shutdown_timeout))


async def _run_async(
    application: AsyncApp,
    url: str | None,
    schema: str | None,
    report_interval: float,
    shutdown_timeout: float,
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _stop, number, stop.set)
    await application.run(
        stop,
        url=url,
        schema=schema,
        report_interval=report_interval,
        shutdown_timeout=shutdown_timeout,
    )


def _stop(number: int, stop: Callable[[], None]) -> None:
    logging.getLogger("indelible.app").info(
        "stopping", extra={"signal": signal.Signals(number).name}
    )
    # A second signal has its default effect.
    signal.signal(number, signal.SIG_DFL)
    stop()


def log_to_stderr(log_format: LogFormat, level: str) -> None:
    """Log to standard error.

    Raises:
        InvalidInput: the level is not one of the known ones.
    """
    numeric = logging.getLevelNamesMapping().get(level.upper())
    if numeric is None:
        raise InvalidInput(f"--log-level must be DEBUG, INFO, WARNING or ERROR, not {level!r}")
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines() if log_format == LogFormat.JSON else _TextLines())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(max(numeric, logging.INFO))
    logging.getLogger("indelible").setLevel(numeric)


def _facts(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class _TextLines(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        facts = "".join(f" {name}={value}" for name, value in _facts(record).items())
        return super().formatMessage(record) + facts


class _JsonLines(logging.Formatter):
    default_msec_format = "%s.%03d"

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_facts(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()
