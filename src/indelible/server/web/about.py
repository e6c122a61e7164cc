"""What this server is: versions, the log, settings, and the licences of what it ships."""

from __future__ import annotations

import dataclasses
import platform
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Any

import msgspec
from starlette.responses import Response

from indelible.access import Verb
from indelible.admin.health import store_health
from indelible.server.routing import Call
from indelible.server.settings import ServerSettings

from . import rendering
from .page import not_here, page

_LEFT_OUT = frozenset({"url", "requires_token", "tls_key"})
"""The address of the database may hold a password; whether a token is needed is told as it is."""
_PACKAGES = ("psycopg", "starlette", "uvicorn", "msgspec", "Jinja2")


class AboutQuery(msgspec.Struct, kw_only=True):
    """Nothing to choose."""


@dataclass(frozen=True, slots=True)
class Shipped:
    """A file of another project.

    Attributes:
        name: its name.
        package: its project.
        version: the version.
        licence: the name of its licence.
        text: the licence.
    """

    name: str
    package: str
    version: str
    licence: str
    text: str


@page("GET", "/about", query=AboutQuery)
async def show_about(call: Call[AboutQuery, None]) -> Response:
    """Show what this server is, in 4 statements."""
    if not call.principal.may_everywhere(Verb.READ):
        raise not_here("There is nothing here that your token may read.")
    found = await call.store._engine.run(store_health())
    return rendering.render(
        call.request,
        "about.html",
        title="About",
        nav="health",
        versions={
            "Indelible": _version("indelible"),
            "PostgreSQL": found.server_version,
            "Python": platform.python_version(),
            **{package: _version(package) for package in _PACKAGES},
        },
        schema=call.settings.schema or "indelible",
        health=found,
        epoch=await call.store.epoch(),
        settings=settings_of(call.settings),
        shipped=shipped(),
    )


pages = [show_about]


def settings_of(settings: ServerSettings) -> dict[str, str]:
    """Return the settings of a server as text, without those that may hold a secret."""
    return {
        "needs a token": _text(settings.is_guarded),
        **{
            field.name.replace("_", " "): _text(getattr(settings, field.name))
            for field in dataclasses.fields(settings)
            if field.name not in _LEFT_OUT
        },
    }


@cache
def shipped() -> tuple[Shipped, ...]:
    """Return the files of other projects that the page ships."""
    folder = files("indelible.server.web") / "static" / "vendor"
    known = tomllib.loads((folder / "vendor.toml").read_text("utf-8"))
    found = []
    for each in known.get("file", ()):
        licence = folder / f"{each['name'].split('.')[0]}.LICENSE"
        text = licence.read_text("utf-8") if licence.is_file() else ""
        found.append(Shipped(each["name"], each["package"], each["version"], each["licence"], text))
    return tuple(found)


def _text(value: Any) -> str:
    match value:
        case None | ():
            return "–"
        case True | False:
            return "yes" if value else "no"
        case tuple():
            return ", ".join(map(str, value))
        case _:
            return str(value)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
