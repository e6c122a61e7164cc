"""Do what a documentation page says, as a reader does who copies everything literally.

CONTRIBUTING.md says how a page is written ("How a documentation page is written and tested").
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import textwrap
import threading
import venv
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from packaging.requirements import Requirement

SECONDS = 180
"""How long a command or a block may take."""

MACHINE = (
    "awk base64 basename bash cat chmod cp curl cut date diff dirname env expr false find grep head"
    " id kill ln ls mkdir mktemp mv printf pwd rm sed seq sh sleep sort stty tail tee test timeout"
    " touch tr true uname uniq wc xargs"
)
"""The programs that a fresh machine has beside Python."""

_FENCE = re.compile(r'^( *)```(\w*)(?:.*? title="([^"]+)")?.*$')
_NOT_RUN = re.compile(r"^ *<!-- not run: .+ -->$")
_ENDING = re.compile(r"kill (?:-\w+ )?(%\d+)")

# Runs in a process of its own. It is a program in one namespace, __main__, as one types it: what
# a block imports from __future__ holds for the later ones.
_SESSION = """
import codeop as _codeop, json as _json, os as _os, sys as _sys, traceback as _traceback
_compile = _codeop.Compile()
_requests, _replies = _os.fdopen(_os.dup(0)), _os.fdopen(_os.dup(1), "w", buffering=1)
_os.dup2(_os.open(_os.devnull, _os.O_RDONLY), 0)
for _request in _requests:
    _source, _name, _output = _json.loads(_request)
    _file = _os.open(_output, _os.O_WRONLY | _os.O_CREAT | _os.O_TRUNC)
    _os.dup2(_file, 1), _os.dup2(_file, 2), _os.close(_file)
    try:
        exec(_compile(_source, _name, "exec"))
        _status = 0
    except BaseException as _error:
        _traceback.print_exception(_error.with_traceback(_error.__traceback__.tb_next))
        _status = 1
    print(_status, file=_replies)
"""


class PageFailure(AssertionError):
    """A step of a page does not do what the page says."""


@dataclass(frozen=True)
class Command:
    line: int
    text: str
    expected: str | None


@dataclass(frozen=True)
class Paste:
    line: int
    text: str
    expected: str | None


@dataclass(frozen=True)
class File:
    line: int
    name: str
    text: str


@dataclass(frozen=True)
class _Block:
    line: int
    language: str
    title: str | None
    text: str
    is_run: bool
    follows: bool
    """Only blank lines are between this block and the one before."""


Step = Command | Paste | File


def steps(page: str) -> list[Step]:
    """Return what a reader of the page does, in its order."""
    found: list[Step] = []
    above: Step | None = None
    for block in _blocks(page):
        made: list[Step] = []
        if not block.is_run:
            pass
        elif block.title:
            made = [File(block.line, block.title, block.text)]
        elif block.language == "python":
            made = [Paste(block.line, block.text, None)]
        elif block.language == "console":
            made = list(_commands(block))
        elif block.language == "text" and block.follows and isinstance(above, Paste):
            found[-1] = replace(above, expected=block.text)
        elif block.language == "text" and block.follows and isinstance(above, Command):
            raise PageFailure(f"line {block.line}: a command's output belongs into its block")
        found += made
        above = made[-1] if made else None
    return found


def _blocks(page: str) -> Iterator[_Block]:
    lines = page.splitlines()
    at, is_run, follows = 0, True, False
    while at < len(lines):
        opening = _FENCE.match(lines[at])
        if not opening:
            if lines[at].strip():
                is_run, follows = not _NOT_RUN.match(lines[at]), False
            at += 1
            continue
        indent, language, title = opening.groups()
        end = lines.index(f"{indent}```", at + 1)
        text = textwrap.dedent("\n".join(lines[at + 1 : end])) + "\n"
        yield _Block(at + 2, language, title, text, is_run, follows)
        at, is_run, follows = end + 1, True, True


def _commands(block: _Block) -> Iterator[Command]:
    line, command, output = 0, "", list[str]()
    for number, text in enumerate([*block.text.splitlines(), "$ "], block.line):
        if text.startswith("$ "):
            if command:
                yield Command(line, command, "\n".join(output) if any(output) else None)
            line, command, output = number, text[2:], []
        elif text.startswith("> ") and not output:
            command += "\n" + text[2:]
        elif not command and text:
            raise PageFailure(f"line {number}: no command before this output: {text}")
        else:
            output.append(text)


def matches(expected: str, output: str) -> bool:
    """Compare; `...` is any text within a line, and a line `...` any number of lines."""
    pattern = ""
    for line in expected.strip("\n").splitlines():
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += re.escape(line.rstrip()).replace(re.escape("..."), r"[^\n]*?") + "\n"
    lines = [line.rstrip() for line in output.strip("\n").splitlines()]
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)) is not None


def units(pages: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Return what is run as one, with a name.

    A page is a unit by itself. The pages of a folder whose names begin with a number are one: each
    continues with the files of the pages before it.
    """

    def name(page: str) -> str:
        path = Path(page)
        return str(path.parent) if path.name[0].isdigit() else page

    return [(unit, list(each)) for unit, each in groupby(sorted(pages), name)]


def run(page: str, home: Path, folder: Path) -> None:
    """Do all steps of a page in a folder.

    Raises:
        PageFailure: a step fails, or its output is not what the page shows.
    """
    todo = steps(page)
    if any("indelible" in step.text for step in todo) and "INDELIBLE_URL=" not in page:
        # It would use the store of the account that runs the tests.
        raise PageFailure("a page sets INDELIBLE_URL to a store of its own")
    with _Reader(home, folder) as reader:
        for step in todo:
            reader.do(step)


class _Reader:
    """Somebody with a shell and a Python session on a fresh machine."""

    def __init__(self, home: Path, folder: Path) -> None:
        self._notes = home / ".notes"
        self._notes.mkdir(exist_ok=True)
        self._output = 0
        self._python: _Session | None = None
        self._open = ExitStack()
        machine = self._notes / "machine"
        python = self._notes / "python"
        if not machine.exists():
            machine.mkdir()
            for name in MACHINE.split():
                if program := shutil.which(name):
                    (machine / name).symlink_to(program)
            venv.EnvBuilder(symlinks=True).create(python)
        environment = {
            "HOME": str(home),
            "PATH": f"{python / 'bin'}:{machine}",
            "TERM": "dumb",
            "COLUMNS": "80",
            "LANG": "C.UTF-8",
        }
        self._shell = self._open.enter_context(
            _Session(["bash", "--norc", "--noprofile"], folder, environment)
        )
        self._run("trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT")  # of what is in the background

    def __enter__(self) -> _Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, at)

    def do(self, step: Step) -> None:
        match step:
            case File(_, name, text):
                path = Path(self._answer("pwd -P")) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, "utf-8")
            case Command(_, text) if text.startswith("pip install "):
                prefix = self._answer("python -c 'import sys; print(sys.prefix)'")
                install(shlex.split(text, comments=True)[2:], Path(prefix))
            case Command():
                self._command(step)
            case Paste():
                self._paste(step)

    def _command(self, step: Command) -> None:
        status, output = self._run(step.text)
        if step.expected is None or not step.expected.replace(".", "").strip():
            if status != 0:
                raise PageFailure(_report(step, f"it ended with {status}", output))
        elif not step.text.endswith("&") and not matches(step.expected, output):
            raise PageFailure(_report(step, f"it ended with {status}", output))
        if ending := _ENDING.fullmatch(step.text):
            self._run(f"wait {ending[1]}")

    def _paste(self, step: Paste) -> None:
        if self._python is None:
            environment = dict(
                entry.split("=", 1) for entry in self._answer("env -0").split("\0") if entry
            )
            command = ["python", "-u", "-c", _SESSION]
            self._python = self._open.enter_context(
                _Session(command, Path(self._answer("pwd -P")), environment)
            )
        path = self._next_output()
        source = "\n" * (step.line - 1) + step.text
        status = self._python.ask(json.dumps([source, "<page>", str(path)]))
        output = path.read_text("utf-8")
        if status != 0:
            raise PageFailure(_report(step, "it raised an error", output))
        if step.expected is not None and not matches(step.expected, output):
            raise PageFailure(_report(step, "its output differs", output))

    def _run(self, command: str) -> tuple[int, str]:
        path = self._next_output()
        status = self._shell.ask(
            f"eval {shlex.quote(command)} </dev/null >{shlex.quote(str(path))} 2>&1; echo $?"
        )
        return status, path.read_text("utf-8")

    def _answer(self, command: str) -> str:
        return self._run(command)[1].removesuffix("\n")

    def _next_output(self) -> Path:
        self._output += 1  # a program in the background keeps on writing to its own
        return self._notes / f"output-{self._output}"


class _Session:
    """A program that is given one line after the other, and answers each with a status."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        program = shutil.which(command[0], path=environment["PATH"]) or command[0]
        self._process = subprocess.Popen(
            [program, *command[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )

    def __enter__(self) -> _Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with self._time_limit(), suppress(BrokenPipeError):
            self._pipe(self._process.stdin).close()
        with self._time_limit():
            status = self._process.wait()
        self._signal(signal.SIGKILL)
        self._pipe(self._process.stdout).close()
        if status != 0 and error is None:
            raise PageFailure(f"the session ended with {status}")

    def ask(self, line: str) -> int:
        with self._time_limit():
            print(line, file=self._pipe(self._process.stdin), flush=True)
            answer = self._pipe(self._process.stdout).readline()
        if not answer:
            raise PageFailure(f"it did not end within {SECONDS} s, or ended the session: {line}")
        return int(answer)

    @contextmanager
    def _time_limit(self) -> Iterator[None]:
        timer = threading.Timer(SECONDS, self._signal, [signal.SIGKILL])
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _signal(self, which: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, which)

    @staticmethod
    def _pipe(stream: IO[str] | None) -> IO[str]:
        assert stream is not None
        return stream


def install(requirements: list[str], prefix: Path) -> None:
    """Link packages of this environment, and what they depend on, into another.

    So a page gets what `pip install` would give it, and no more: what its install line forgets, it
    cannot import or run.

    Raises:
        PageFailure: a package is not installed here.
    """
    (site,) = prefix.glob("lib/python*/site-packages")
    for distribution in _with_dependencies(requirements):
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))))
        for script in distribution.entry_points.select(group="console_scripts"):
            path = prefix / "bin" / script.name
            path.write_text(
                f"#!{prefix}/bin/python\nimport sys\nfrom {script.module} import {script.attr}\n"
                f"if __name__ == '__main__':\n    sys.exit({script.attr}())\n"
            )
            path.chmod(0o755)


def _with_dependencies(requirements: list[str]) -> list[metadata.Distribution]:
    found: dict[str, metadata.Distribution] = {}
    waiting = [Requirement(text) for text in requirements if not text.startswith("-")]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        wanted = waiting.pop()
        if (key := (wanted.name, frozenset(wanted.extras))) in seen:
            continue
        seen.add(key)
        try:
            found[wanted.name] = distribution = metadata.distribution(wanted.name)
        except metadata.PackageNotFoundError:
            raise PageFailure(
                f"{wanted} is not installed here: add it to the dependency group dev"
            ) from None
        for text in distribution.requires or ():
            needed = Requirement(text)
            extras: Any = ("", *wanted.extras)
            if not needed.marker or any(needed.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(needed)
    return list(found.values())


def _report(step: Command | Paste, problem: str, output: str) -> str:
    parts = [f"line {step.line}: {problem}", textwrap.indent(step.text, "    ")]
    if step.expected is not None:
        parts += ["expected:", textwrap.indent(step.expected, "    ")]
    return "\n".join([*parts, "output:", textwrap.indent(output, "    ")])
