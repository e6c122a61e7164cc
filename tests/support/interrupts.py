"""Raise exceptions from a signal handler, at the n-th place where the interpreter calls it.

CPython calls signal handlers in the main thread, after calls, and at the beginning of functions and
loop iterations. Their exceptions are raised at that place.
"""

from __future__ import annotations

import dis
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

_LOOKS = ("CALL", "RESUME", "JUMP_BACKWARD", "POP_JUMP_BACKWARD")


class Interrupt(BaseException):
    """What the handler raises."""


class Interrupted:
    """How an interruption went.

    Attributes:
        places: how many places were passed.
        happened: whether it came to the one that was meant.
    """

    def __init__(self) -> None:
        self.places = 0
        self.happened = False


@contextmanager
def interrupted_at(place: int, *files: str) -> Iterator[Interrupted]:
    """Raise `Interrupt` in this thread at the n-th place in files whose names end so.

    It is caught at the end of the block.
    """
    told = Interrupted()
    last: dict[FrameType, int] = {}

    def enter(frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.endswith(files):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return step

    def step(frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        if event == "opcode":
            before = last.get(frame)
            last[frame] = frame.f_lasti
            if before is not None and _looks(frame.f_code, before, frame.f_lasti):
                told.places += 1
                if told.places == place:
                    told.happened = True
                    raise Interrupt
        elif event == "return":
            last.pop(frame, None)
        return step

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield told
    except Interrupt:
        pass
    finally:
        sys.settrace(before)
        last.clear()


@functools.cache
def _looks(code: CodeType, before: int, now: int) -> bool:
    """Whether a handler runs between two instructions, and what it raises is caught alike.

    It comes out of the first one and is raised here before the second one, which may be the end of
    a `with` already.
    """
    return dis.opname[code.co_code[before]].startswith(_LOOKS) and (
        _handler(code, before) == _handler(code, now)
    )


def _handler(code: CodeType, offset: int) -> int | None:
    table = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    return next((entry.target for entry in table if entry.start <= offset < entry.end), None)
