"""Writes the table of errors from the docstrings of `indelible.errors`, when the pages are built.

The first paragraph of an error's docstring says when it is raised. The paragraph that begins with
"What to do:" says how to go on.
"""

import inspect
from collections.abc import Iterator
from typing import Any

from indelible import errors

PLACE = "<!-- errors -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table where a page asks for it."""
    return markdown.replace(PLACE, "\n".join(_rows())) if PLACE in markdown else markdown


def _rows() -> Iterator[str]:
    yield "| error | is raised when | what to do | base class |"
    yield "| --- | --- | --- | --- |"
    for error in _tree(errors.IndelibleError):
        when, what = _sentences(error)
        bases = ", ".join(_name(base) for base in error.__bases__)
        yield f"| {_name(error)} | {when} | {what} | {bases} |"


def _tree(error: type) -> Iterator[type]:
    yield error
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree(child)


def _sentences(error: type) -> tuple[str, str]:
    paragraphs = [" ".join(part.split()) for part in (inspect.getdoc(error) or "").split("\n\n")]
    for paragraph in paragraphs[1:]:
        marker, found, what = paragraph.partition("What to do: ")
        if found and not marker:
            return paragraphs[0].replace("|", r"\|"), what.replace("|", r"\|")
    raise SystemExit(f"the docstring of {error.__name__} has no paragraph 'What to do: …'")


def _name(error: type) -> str:
    if error.__module__ != errors.__name__:
        return f"`{error.__name__}`"
    return f"[`{error.__name__}`](#{error.__module__}.{error.__name__})"
