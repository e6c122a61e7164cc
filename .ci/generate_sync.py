"""Generate the sync modules of src/indelible from the async ones: `x.py` from `x_async.py`.

`generate_sync.py` writes them, and `generate_sync.py --check` compares them with the existing ones.
It rewrites tokens: names by the rules below, and the words of docstrings, messages and comments.
There are no conditional blocks: a module that would need one is written by hand (HAND_WRITTEN).
"""

from __future__ import annotations

import difflib
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "indelible"
RUFF = Path(sys.executable).with_name("ruff")

HAND_WRITTEN = {
    "app/app_async.py",
    "bulk_import/importer_async.py",
    "consumer_groups/consumer_async.py",
    "core/concurrency_async.py",
    "postgres/connection_async.py",
    "postgres/engine_async.py",
    "postgres/group_commit_async.py",
    "postgres/pool_async.py",
    "streams/log_async.py",
}
"""Pairs that differ in kind; CONTRIBUTING.md says why."""

NAMES = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "AbstractAsyncContextManager": "AbstractContextManager",
    "StopAsyncIteration": "StopIteration",
    "aclose": "close",
    "aiter_bytes": "iter_bytes",
    "anext": "next",
    "aread": "read",
    "asynccontextmanager": "contextmanager",
    "asyncio": "threading",
}
"""Async names and their sync names."""

PATTERNS = {
    r"Async(?=[A-Z])(\w+)": r"\1",  # AsyncEventStore
    r"_Async(?=[A-Z])(\w+)": r"_\1",
    r"(\w{3,})_async": r"\1",  # event_store_async, but not is_async
}
"""Patterns of async names, and how to shorten them to sync names."""

PHRASES = {
    "a task": "a thread",
    "another task": "another thread",
    "its task": "its thread",
    "one task": "one thread",
    "the task": "the thread",
    "tasks of one event loop": "threads",
    "tasks that": "threads that",
}
"""Phrases in docstrings and comments, and their sync replacements."""

_HEADER = "# Generated from"
_WORD = re.compile(r"\w+")
_PHRASE = re.compile(rf"\b(?:{'|'.join(PHRASES)})\b", re.IGNORECASE)
_KEYWORDS = re.compile(r"\b(?:await|async(?= (?:def|for|with)\b))\s+")

_used: set[str] = set()


def rename(name: str) -> str:
    """Return the sync name for an async name."""
    if name in NAMES:
        _used.add(name)
        return NAMES[name]
    for pattern, replacement in PATTERNS.items():
        if match := re.fullmatch(pattern, name):
            _used.add(pattern)
            return match.expand(replacement)
    return name


def reword(text: str) -> str:
    """Return the sync text of a string or a comment, including code examples."""
    text = _PHRASE.sub(lambda phrase: rephrase(phrase[0]), _KEYWORDS.sub("", text))
    return _WORD.sub(lambda word: rename(word[0]), text)


def rephrase(phrase: str) -> str:
    """Return the phrase about threads that replaces a phrase about tasks."""
    _used.add(phrase.lower())
    replacement = PHRASES[phrase.lower()]
    return replacement.capitalize() if phrase[0].isupper() else replacement


def rewrite(source: str) -> str:
    """Return the sync code for async code, not formatted."""
    line_starts = [0, *accumulate(map(len, source.splitlines(keepends=True)))]
    parts: list[str] = []
    at = 0
    is_dropped = False
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        start, end = (line_starts[row - 1] + column for row, column in (token.start, token.end))
        if not is_dropped:
            parts.append(source[at:start])  # spaces, and line ends after a backslash
        at = end
        is_dropped = token.type == tokenize.NAME and token.string in ("async", "await")
        if not is_dropped:
            rewritten = _REWRITTEN.get(tokenize.tok_name[token.type], str)
            parts.append(rewritten(source[start:end]))
    return "".join(parts)


_REWRITTEN: dict[str, Callable[[str], str]] = {
    "NAME": rename,
    "COMMENT": reword,
    "STRING": reword,
    "FSTRING_MIDDLE": reword,  # since Python 3.12
}


def ruff(code: str, path: Path, *arguments: str) -> str:
    """Return the output of ruff for a module."""
    command = [str(RUFF), *arguments, "--quiet", f"--stdin-filename={path}", "-"]
    done = subprocess.run(command, input=code, stdout=subprocess.PIPE, check=True, text=True)
    return done.stdout


def generate(source: Path, target: Path) -> str:
    """Return the text of a generated module."""
    code = f"{_HEADER} {source.name}; do not edit.\n{rewrite(source.read_text('utf-8'))}"
    # Sync code has fewer `with` blocks and imports, and a loop that only yields is a `yield from`.
    # The formatter breaks long lines.
    rules = ("--select=I,SIM117,UP028", "--config=line-length=320")
    fixes = ("check", "--fix-only", "--unsafe-fixes", *rules)
    return ruff(ruff(code, target, *fixes), target, "format")


def main(*, only_check: bool) -> int:
    """Write or compare all generated modules; return the number of differences and faults."""
    faults = 0
    sources = sorted(SOURCE.rglob("*_async.py"))
    targets: set[Path] = set()
    for source in sources:
        if str(source.relative_to(SOURCE)) in HAND_WRITTEN:
            continue
        target = source.with_name(source.name.replace("_async", ""))
        targets.add(target)
        old = target.read_text("utf-8") if target.exists() else ""
        new = generate(source, target)
        if old == new:
            continue
        if only_check:
            faults += 1
            names = (str(target.relative_to(ROOT)), "make generate")
            diff = difflib.unified_diff(old.splitlines(), new.splitlines(), *names, lineterm="")
            print(*diff, sep="\n")
        else:
            target.write_text(new, "utf-8")
    for path in sorted(set(SOURCE.rglob("*.py")) - targets):
        if path.read_text("utf-8").startswith(_HEADER):
            faults += 1
            print(f"{path.relative_to(ROOT)}: has no async source any more: remove it")
    known = {str(source.relative_to(SOURCE)) for source in sources}
    unused = {*NAMES, *PATTERNS, *PHRASES} - _used | HAND_WRITTEN - known
    for rule in sorted(unused):
        print(f"{Path(__file__).name}: the rule {rule!r} is unused: remove it", file=sys.stderr)
    return faults + len(unused)


if __name__ == "__main__":
    raise SystemExit(min(main(only_check="--check" in sys.argv[1:]), 1))
