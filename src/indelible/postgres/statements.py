"""Load the SQL statements of all packages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import LiteralString

from psycopg import sql

from indelible.errors import InvalidInput

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,47}")


def check_schema_name(name: object) -> str:
    """Check the name of a schema.

    Raises:
        InvalidInput: the name is not text, or is not allowed as the schema of a store.
    """
    if (
        not isinstance(name, str)
        or not _NAME.fullmatch(name)
        or name.startswith("pg_")
        or name == "information_schema"
    ):
        raise InvalidInput(
            "the name of a schema must have 1 to 48 characters of a-z, 0-9 and _, and must not"
            f" start with a digit or pg_, nor be information_schema: {name!r} is not allowed"
        )
    return name


def in_schema(text: str, schema: str) -> LiteralString:
    """Replace `indelible.` in the text of a statement by the name of a schema.

    Args:
        text: the text of a statement or of a schema file.
        schema: a name that `check_schema_name` has accepted.
    """
    quoted = sql.Identifier(schema).as_string(None)
    text = re.sub(r"\bSCHEMA (IF NOT EXISTS )?indelible\b", rf"SCHEMA \1{quoted}", text)
    # As safe as a literal: the text comes from the package's files, and the name was checked.
    return re.sub(r"\bindelible\.", f"{quoted}.", text)


@cache
def statements(schema: str) -> Mapping[str, LiteralString]:
    """Return the statements of all packages for one schema, by name.

    Each package has its statements in one file, `statements.sql`, as blocks that begin with a line
    `-- name: NAME`. The name of a statement is `PACKAGE.NAME`. If a statement orders its rows with
    `ASC`, `PACKAGE.NAME.descending` is the same in descending order.
    """
    texts: dict[str, LiteralString] = {}
    for package in files("indelible").iterdir():
        file = package / "statements.sql"
        if file.is_file():
            for block in file.read_text("utf-8").split("-- name: ")[1:]:
                name, _, text = block.partition("\n")
                name, text = f"{package.name}.{name}", in_schema(text.rstrip(), schema)
                texts[name] = text
                if " ASC" in text:
                    texts[f"{name}.descending"] = text.replace(" ASC", " DESC")
    return texts
