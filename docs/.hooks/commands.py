"""Write the reference of the command line from its help, when the pages are built."""

import subprocess
import sys
from typing import Any

PLACE = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the placeholder of a page by the commands."""
    return markdown.replace(PLACE, _commands()) if PLACE in markdown else markdown


def _commands() -> str:
    told = subprocess.run(
        [sys.executable, "-m", "typer", "indelible.cli", "utils", "docs", "--name", "indelible"],
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode != 0:
        raise SystemExit(f"cannot read the commands of indelible.cli:\n{told.stderr}")
    _title, _, commands = told.stdout.partition("\n")
    return commands
