"""Scripts, styles and icons. Their address contains a checksum, so browsers keep them for ever."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parent / "static"
PREFIX = "/static/"


@cache
def version() -> str:
    """Return the checksum of all files. Scripts import each other, so one changes all addresses."""
    found = hashlib.sha256()
    for file in sorted(FOLDER.rglob("*")):
        if file.is_file():
            found.update(file.relative_to(FOLDER).as_posix().encode())
            found.update(file.read_bytes())
    return found.hexdigest()[:12]


def address(name: str) -> str:
    """Return the address of a file."""
    return f"{PREFIX}{version()}/{name}"


class Assets(StaticFiles):
    """The files."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, which never changes under its address."""
        response = await super().get_response(path, scope)
        if response.status_code in (200, 304):
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response
