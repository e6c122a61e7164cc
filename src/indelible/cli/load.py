"""Find what a command is told of as `module:name`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from indelible.errors import InvalidInput


def load(text: str, what: str, form: str) -> Any:
    """Find something in a module.

    Args:
        text: `module:name`; the module is looked for in the current folder, too.
        what: what it is to be, for the error.
        form: how it is written, for the error.

    Returns:
        It; None where the module has no such name.

    Raises:
        InvalidInput: there is no such module.
    """
    module_name, _, name = text.partition(":")
    if not module_name or not name:
        raise InvalidInput(f"{text!r} names no {what}: write {form}")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise  # something that the module itself imports
        raise InvalidInput(
            f"there is no module {module_name!r} here: run it where the module is, or install it"
        ) from error
    return getattr(module, name, None)
