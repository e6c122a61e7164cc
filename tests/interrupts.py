"""Exceptions out of a signal's handler: raised at the n-th place where the interpreter looks for one.

CPython runs handlers in the main thread, after a call and where a function or a turn of a loop
begins. What they raise comes out of there.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
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
            if before is not None and _looks(frame, before):
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


def _looks(frame: FrameType, offset: int) -> bool:
    return dis.opname[frame.f_code.co_code[offset]].startswith(_LOOKS)
