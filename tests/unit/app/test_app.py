"""Applications: arguments and handlers that are checked before anything runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import pytest

from indelible import Aggregate, App, AsyncApp, InvalidInput, unregistered
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


def test_a_coroutine_is_refused_where_nothing_can_await_it() -> None:
    with pytest.raises(InvalidInput, match="use AsyncApp"):
        App("shop").on("A")(coroutine)  # type: ignore[arg-type]
    assert AsyncApp("shop").on("A")(coroutine) is coroutine
    assert AsyncApp("shop").on("A")(plain) is plain


def test_an_aggregate_class_stands_for_its_events() -> None:
    class Thing(Aggregate[Happened | Other]):
        pass

    app = App("shop", events=Thing)
    app.on(Thing)(plain)
    with pytest.raises(InvalidInput, match="'Other' already has a handler"):
        app.on(Other)(plain)


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

    for wrong, match in ((lambda: None, "signature"), (of_two, "no resource"), (yielding, "yield")):
        with pytest.raises(InvalidInput, match=match):
            App("shop").on("A")(wrong)


def test_what_a_handler_takes_besides_the_event_is_a_resource() -> None:
    def send(event: object, mailer: object, retries: int = 3) -> None: ...

    app = App("shop", resources={"mailer": nullcontext})
    assert app.on("A")(send) is send
    with pytest.raises(InvalidInput, match=r"send takes 'mailer', which is no resource"):
        App("shop").on("A")(send)


def test_a_resource_is_passed_by_name() -> None:
    def send(event: object, mailer: object, /) -> None: ...

    with pytest.raises(InvalidInput, match="has the signature"):
        App("shop", resources={"mailer": nullcontext}).on("A")(send)


async def open_mailer() -> None: ...


@pytest.mark.parametrize("factory", [None, "mailer", nullcontext(), open_mailer])
def test_a_resource_that_nothing_opens_is_refused(factory: object) -> None:
    for app in (App, AsyncApp):
        with pytest.raises(InvalidInput, match="'mailer' must be a function that returns"):
            app("shop", resources={"mailer": factory})  # type: ignore[dict-item]
