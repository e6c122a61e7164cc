"""Applications: arguments and handlers that are checked before anything runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from indelible import App, AsyncApp, InvalidInput, unregistered
from indelible.errors import UnregisteredEventClass


@dataclass
class Happened:
    number: int


@dataclass
class Other:
    number: int


def plain(event: object) -> None: ...


async def coroutine(event: object) -> None: ...


def test_a_handler_is_given_back_as_it_is() -> None:
    app = App("shop", events=[Happened])
    assert app.on(Happened)(plain) is plain
    assert app.on(unregistered("Imported"), group="audit")(plain) is plain


def test_a_class_that_is_not_registered_is_refused() -> None:
    with pytest.raises(UnregisteredEventClass, match="Happened"):
        App("shop").on(Happened)


def test_a_handler_of_the_other_variant_is_refused() -> None:
    with pytest.raises(InvalidInput, match="AsyncApp"):
        App("shop").on("A")(coroutine)  # type: ignore[type-var]
    with pytest.raises(InvalidInput, match="use App"):
        AsyncApp("shop").on("A")(plain)  # type: ignore[type-var]


def test_a_second_handler_of_a_type_needs_a_group_of_its_own() -> None:
    app = App("shop")
    app.on("A", "B")(plain)
    with pytest.raises(InvalidInput, match="a group of its own"):
        app.on("B")(plain)


def test_an_application_without_handlers_does_not_run() -> None:
    with pytest.raises(InvalidInput, match="no handlers"):
        App("shop").run(threading.Event())


@pytest.mark.parametrize("concurrency", [0, -1, True, "2"])
def test_a_concurrency_that_is_none_is_refused(concurrency: object) -> None:
    with pytest.raises(InvalidInput, match="concurrency"):
        App("shop", concurrency=concurrency)  # type: ignore[arg-type]


def test_no_types_are_refused() -> None:
    with pytest.raises(InvalidInput, match="needs the event types"):
        App("shop").on()


def test_a_name_that_no_class_has_is_refused() -> None:
    app = App("shop", events=[Happened])

    with pytest.raises(InvalidInput, match=r"'Hapened' is not registered: did you mean 'Happened'"):
        app.on("Hapened")
    assert App("shop", events=[Happened, Other]).on(Happened | Other)(plain) is plain


def test_a_handler_must_take_an_event() -> None:
    def of_two(event: object, other: object) -> None: ...

    def yielding(event: object) -> Iterator[None]:
        yield

    for wrong, match in ((lambda: None, "takes"), (of_two, "takes"), (yielding, "yield")):
        with pytest.raises(InvalidInput, match=match):
            App("shop").on("A")(wrong)
