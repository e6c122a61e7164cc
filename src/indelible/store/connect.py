"""Prepare the opening of a store: find its database and schema, check the settings, migrate."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from indelible import embedded
from indelible.core.validation import validate_integer, validate_name
from indelible.errors import InvalidInput
from indelible.postgres.errors import target
from indelible.postgres.migrations import migrate_store
from indelible.postgres.settings import Settings
from indelible.postgres.statements import check_schema_name
from indelible.serialization.codec import Codec
from indelible.serialization.event_classes import EventClasses, Unknown
from indelible.streams.append_input import AppendSettings

MAX_EVENT_BYTES = 1024 * 1024
"""The default limit for the data and metadata of an event, in bytes."""

URL_VARIABLE = "INDELIBLE_URL"
"""The environment variable with the URL of the database. It is used if no URL is passed."""

SCHEMA_VARIABLE = "INDELIBLE_SCHEMA"
"""The environment variable with the schema name. It is used if no schema is passed."""


@dataclass(frozen=True, slots=True)
class Opening:
    """The checked settings of a store.

    Attributes:
        settings: the connection settings.
        writing: the settings of its appends.
        release: the function to call after the store is closed.
    """

    settings: Settings
    writing: AppendSettings
    release: Callable[[], None]


def prepare(
    url: str | None,
    *,
    schema: str | None,
    events: EventClasses,
    unknown: Unknown,
    channel: str | None,
    metadata: Callable[[], Mapping[str, Any] | None] | None,
    migrate: bool | None,
    max_event_bytes: int,
    pool_size: int,
    timeout: float,
) -> Opening:
    """Check the arguments of `EventStore.connect`, start the embedded database, migrate."""
    schema = schema_of(schema)
    check_schema_name(schema)
    writing = append_settings(
        events=events,
        unknown=unknown,
        channel=channel,
        metadata=metadata,
        max_event_bytes=max_event_bytes,
    )
    validate_integer("pool_size", pool_size, 1)
    check_timeout(timeout)
    found, release = locate(url)
    settings = Settings(
        found, schema, pool_size=pool_size, timeout=timeout, embedded_url=embedded_url(url)
    )
    is_embedded = release is not _nothing
    try:
        if migrate or (migrate is None and is_embedded):
            migrate_store(settings)
    except BaseException:
        release()
        raise
    return Opening(settings, writing, release)


def append_settings(
    *,
    events: EventClasses,
    unknown: Unknown,
    channel: str | None,
    metadata: Callable[[], Mapping[str, Any] | None] | None,
    max_event_bytes: int,
) -> AppendSettings:
    """Check the arguments of `EventStore.connect` that concern events."""
    return AppendSettings(
        codec=Codec(events, unknown=unknown),
        channel=None if channel is None else validate_name("channel", channel),
        max_event_bytes=validate_integer("max_event_bytes", max_event_bytes, 1),
        metadata=_check_metadata(metadata),
    )


def check_timeout(value: object) -> float:
    """Check that a timeout is a number of seconds.

    Raises:
        InvalidInput: it is not.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9:
        return value
    raise InvalidInput(f"timeout must be a number of seconds above 0, not {value!r}")


def remote_url(url: str | None, **of_server: object) -> str | None:
    """Return the URL if it is that of a server, which is used over HTTP.

    Args:
        url: the URL passed by the caller; None for `$INDELIBLE_URL`.
        of_server: options that only a server has.

    Raises:
        InvalidInput: such an option was passed with another URL.
    """
    known = _known(url)
    if known.startswith(("http://", "https://")):
        return known
    for option, value in of_server.items():
        if value is not None:
            raise InvalidInput(
                f"{option} is for the URL of a server (https://…): leave it out, or pass such a URL"
            )
    return None


def remote(module: str) -> Any:
    """Import a module of the store over HTTP.

    Raises:
        InvalidInput: a package that it needs is not installed.
    """
    try:
        return import_module(f"indelible.remote.{module}")
    except ModuleNotFoundError as error:
        raise InvalidInput(
            f"a store over HTTP needs a package that is not installed ({error.name}): pip install"
            " 'indelible[remote]'"
        ) from error


def locate(url: str | None) -> tuple[str, Callable[[], None]]:
    """Find the database, and start it if it is an embedded one.

    Args:
        url: the URL passed by the caller; None for `$INDELIBLE_URL`, else the embedded database.

    Returns:
        A URL for the driver, and the function to call when the database is no longer used.

    Raises:
        EmbeddedUnavailable: the embedded PostgreSQL cannot be used here.
    """
    url = _known(url)
    if not url.startswith("embedded:"):
        return url, _nothing
    server = embedded.start(embedded.parse_url(url))
    return server.url, server.close


def schema_of(schema: str | None) -> str:
    """Return the schema passed by the caller, else `$INDELIBLE_SCHEMA`, else `indelible`."""
    return os.environ.get(SCHEMA_VARIABLE) or "indelible" if schema is None else schema


def is_embedded(url: str | None) -> bool:
    """Return whether a URL refers to an embedded database."""
    return _known(url).startswith("embedded:")


def would_be_made(url: str | None) -> bool:
    """Return whether a URL refers to an embedded database that does not exist yet."""
    url = _known(url)
    return url.startswith("embedded:") and not embedded.is_made(embedded.parse_url(url))


def place(url: str | None) -> str:
    """Return the location of the database of a URL for messages, without the password."""
    return remote_url(url) or embedded_url(url) or target(_known(url))


def embedded_url(url: str | None) -> str:
    """Return the URL of an embedded database, with its folder; empty for another database."""
    url = _known(url)
    if not url.startswith("embedded:"):
        return ""
    return url if embedded.parse_url(url) else f"embedded://{embedded.default_folder()}"


def _check_metadata(metadata: Any) -> Callable[[], Mapping[str, Any] | None] | None:
    if metadata is not None and not callable(metadata):
        raise InvalidInput(
            f"metadata must be a function that returns a dict, not {metadata!r}: it is called for"
            " each append"
        )
    if inspect.iscoroutinefunction(metadata):
        raise InvalidInput("metadata must be a plain function, also for an AsyncEventStore")
    return metadata  # type: ignore[no-any-return]


def _known(url: str | None) -> str:
    return os.environ.get(URL_VARIABLE) or "embedded://" if url is None else url


def _nothing() -> None:
    """Do nothing: an external database needs no release."""
