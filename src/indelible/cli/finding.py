"""What a module of the user's holds: modules, by name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from indelible.errors import InvalidInput


def find_module(name: str) -> ModuleType:
    """Find a module; it is looked for in the current folder, too.

    Raises:
        InvalidInput: there is none.
    """
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise  # something that the module itself imports
        raise InvalidInput(
            f"there is no module {name!r} here: run it where the module is, or install it"
        ) from error
