"""Every help page at 80 columns, and the completion scripts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from indelible import __version__
from indelible.cli.main import app
from tests.support.command import Command


def _commands(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from _commands(subcommand, *path, name)


PAGES = list(_commands(typer.main.get_command(app)))


@pytest.mark.parametrize(
    ("path", "command"), PAGES, ids=[" ".join(("indelible", *path)) for path, _ in PAGES]
)
def test_a_help_page_fits_80_columns_and_names_each_value_in_one_style(
    path: tuple[str, ...], command: Any
) -> None:
    done = Command("", "nowhere")(*path, "--help", columns=80)

    assert (done.code, done.err) == (0, "")
    page = re.sub(r"\x1b\[[0-9;]*m", "", done.out)
    lines = page.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in page.replace("postgresql://…", "")
    usage = next(line for line in lines if "Usage: indelible" in line)
    assert not set(usage) & set("{}<>")
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            shown = (parameter.metavar,)
            assert re.search(rf" \[?{re.escape(parameter.metavar)}\]?( |$)", usage)
        else:
            is_flag = parameter.is_flag or parameter.name.endswith("_completion")
            shown = (*parameter.opts, *(() if is_flag else (parameter.metavar,)))
        assert all(re.fullmatch(r"--?[a-z-]+|-V|[A-Z]+(:[A-Z]+|\[:[A-Z]+\])?", s) for s in shown)
        # Arguments and options have a row that begins with their name.
        row = next(line for line in lines if re.search(rf"│ [* ]*{re.escape(shown[0])} ", line))
        assert row.split()[1:][row.split()[1] == "*" :][: len(shown)] == list(shown)


def test_each_page_that_reads_a_store_says_where_it_is() -> None:
    texts = {path: [option for each in command.params for option in each.opts]
             for path, command in PAGES if not hasattr(command, "commands")}  # fmt: skip
    assert len(texts) > 30
    for path, options in texts.items():
        assert {"--url", "--schema"} <= set(options), path


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "indelible", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (f"indelible {__version__}\n", "")


def _run(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "indelible"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("shell", "part"),
    [
        ("bash", "complete -o default -F"),
        ("zsh", "#compdef indelible"),
        ("fish", "complete --command indelible"),
    ],
)
def test_completion_scripts_are_printed(shell: str, part: str) -> None:
    script = _run(_INDELIBLE_COMPLETE=f"source_{shell}")
    assert part in script
    if shutil.which(shell) is not None:
        # The command looks which shell has started it.
        shown = subprocess.run(
            [shell, "-c", f"{sys.executable} -m indelible --show-completion; true"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (shown.stdout.strip(), shown.stderr) == (script.strip(), "")


def test_completion_knows_the_commands() -> None:
    found = _run(
        _INDELIBLE_COMPLETE="complete_bash", COMP_WORDS="indelible groups re", COMP_CWORD="2"
    )
    assert set(found.split()) == {"reset", "replay"}
