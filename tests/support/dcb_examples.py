"""The six examples of dcb.events (https://dcb.events/examples): their models and their decisions.

Each decision is a plain function of the states of its models; a function of the command makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from indelible import DecisionModel, NewEvent, Query, RecordedEvent


class Refused(Exception):
    """The rules of the domain say no."""


# Course subscriptions: a capacity, and no more than so many courses for a student -----------------

MOST_COURSES = 5


def course_defined(course: str, capacity: int) -> NewEvent:
    return NewEvent("CourseDefined", {"capacity": capacity}, tags=[f"course:{course}"])


def capacity_changed(course: str, capacity: int) -> NewEvent:
    return NewEvent("CapacityChanged", {"capacity": capacity}, tags=[f"course:{course}"])


def student_subscribed(course: str, student: str) -> NewEvent:
    return NewEvent(
        "StudentSubscribed",
        {"course": course, "student": student},
        tags=[f"course:{course}", f"student:{student}"],
    )


def course_exists(course: str) -> DecisionModel[bool]:
    return DecisionModel(
        Query(types="CourseDefined", tags=f"course:{course}"), False, lambda _, event: True
    )


def course_capacity(course: str) -> DecisionModel[int]:
    return DecisionModel(
        Query(types=["CourseDefined", "CapacityChanged"], tags=f"course:{course}"),
        0,
        lambda _, event: int(event.data["capacity"]),
    )


def course_subscriptions(course: str) -> DecisionModel[int]:
    return DecisionModel(
        Query(types="StudentSubscribed", tags=f"course:{course}"), 0, lambda n, event: n + 1
    )


def student_courses(student: str) -> DecisionModel[frozenset[str]]:
    return DecisionModel(
        Query(types="StudentSubscribed", tags=f"student:{student}"),
        frozenset(),
        lambda courses, event: courses | {event.data["course"]},
    )


def define(course: str, capacity: int) -> Callable[[bool], NewEvent]:
    def decide(exists: bool) -> NewEvent:
        if exists:
            raise Refused(f"course {course} is there already")
        return course_defined(course, capacity)

    return decide


def subscribe(course: str, student: str) -> Callable[[bool, int, int, frozenset[str]], NewEvent]:
    def decide(exists: bool, capacity: int, taken: int, courses: frozenset[str]) -> NewEvent:
        if not exists:
            raise Refused(f"there is no course {course}")
        if course in courses:
            raise Refused(f"{student} has subscribed to {course} already")
        if taken >= capacity:
            raise Refused(f"course {course} is full")
        if len(courses) >= MOST_COURSES:
            raise Refused(f"{student} has {MOST_COURSES} courses already")
        return student_subscribed(course, student)

    return decide


def subscription_models(
    course: str, student: str
) -> tuple[
    DecisionModel[bool], DecisionModel[int], DecisionModel[int], DecisionModel[frozenset[str]]
]:
    return (
        course_exists(course),
        course_capacity(course),
        course_subscriptions(course),
        student_courses(student),
    )


# Unique user name: taken once, and free again when it was released ------------------------------


def name_taken(name: str, user: str) -> NewEvent:
    return NewEvent("NameTaken", {"name": name, "user": user}, tags=[f"name:{name}"])


def name_released(name: str) -> NewEvent:
    return NewEvent("NameReleased", {"name": name}, tags=[f"name:{name}"])


def name_owner(name: str) -> DecisionModel[str | None]:
    return DecisionModel(
        Query(types=["NameTaken", "NameReleased"], tags=f"name:{name}"),
        None,
        lambda _, event: event.data["user"] if event.type == "NameTaken" else None,
    )


def take_name(name: str, user: str) -> Callable[[str | None], NewEvent]:
    def decide(owner: str | None) -> NewEvent:
        if owner is not None:
            raise Refused(f"the name {name} belongs to {owner}")
        return name_taken(name, user)

    return decide


def release_name(name: str, user: str) -> Callable[[str | None], NewEvent]:
    def decide(owner: str | None) -> NewEvent:
        if owner != user:
            raise Refused(f"the name {name} is not {user}'s")
        return name_released(name)

    return decide


# Invoice numbers without gaps: a rule of types alone --------------------------------------------


def next_invoice_number() -> DecisionModel[int]:
    return DecisionModel(
        Query(types="InvoiceIssued"), 1, lambda _, event: int(event.data["number"]) + 1
    )


def issue_invoice(number: int) -> NewEvent:
    return NewEvent("InvoiceIssued", {"number": number})


# Opt-in token: confirms once, and not too late --------------------------------------------------

TOKEN_HOLDS = timedelta(hours=1)


@dataclass(frozen=True)
class SignUp:
    initiated_at: datetime
    confirmed: bool = False


def sign_up_initiated(email: str, token: str) -> NewEvent:
    return NewEvent("SignUpInitiated", {"email": email}, tags=[f"email:{email}", f"token:{token}"])


def sign_up(email: str, token: str) -> DecisionModel[SignUp | None]:
    def evolve(_: SignUp | None, event: RecordedEvent) -> SignUp:
        return SignUp(event.recorded_at, confirmed=event.type == "SignUpConfirmed")

    return DecisionModel(
        Query(
            types=["SignUpInitiated", "SignUpConfirmed"],
            tags=[f"email:{email}", f"token:{token}"],
        ),
        None,
        evolve,
    )


def confirm_sign_up(email: str, token: str, now: datetime) -> Callable[[SignUp | None], NewEvent]:
    def decide(pending: SignUp | None) -> NewEvent:
        if pending is None:
            raise Refused("there is no such sign-up")
        if pending.confirmed:
            raise Refused("the token was used already")
        if now > pending.initiated_at + TOKEN_HOLDS:
            raise Refused("the token has expired")
        return NewEvent(
            "SignUpConfirmed", {"email": email}, tags=[f"email:{email}", f"token:{token}"]
        )

    return decide


# Product prices: what was shown holds for a while -----------------------------------------------


@dataclass(frozen=True)
class Prices:
    current: int
    """In cents."""
    replaced: tuple[tuple[int, datetime], ...] = ()
    """Earlier ones, each with the time at which it was replaced."""

    def accepted(self, now: datetime, grace: timedelta) -> set[int]:
        return {self.current} | {price for price, at in self.replaced if now <= at + grace}


def price_set(product: str, price: int) -> NewEvent:
    return NewEvent("PriceSet", {"price": price}, tags=[f"product:{product}"])


def product_prices(product: str) -> DecisionModel[Prices | None]:
    def evolve(prices: Prices | None, event: RecordedEvent) -> Prices:
        if prices is None:
            return Prices(event.data["price"])
        return Prices(event.data["price"], (*prices.replaced, (prices.current, event.recorded_at)))

    return DecisionModel(Query(types="PriceSet", tags=f"product:{product}"), None, evolve)


def purchase(
    product: str, shown: int, now: datetime, grace: timedelta = timedelta(minutes=10)
) -> Callable[[Prices | None], NewEvent]:
    def decide(prices: Prices | None) -> NewEvent:
        if prices is None or shown not in prices.accepted(now, grace):
            raise Refused(f"{product} does not cost {shown} any more")
        return NewEvent("ProductPurchased", {"price": shown}, tags=[f"product:{product}"])

    return decide


# No record twice: a token that comes with the command -------------------------------------------


def order_of(token: str) -> DecisionModel[str | None]:
    return DecisionModel(
        Query(types="OrderPlaced", tags=f"request:{token}"),
        None,
        lambda _, event: event.data["order"],
    )


def place_order(order: str, token: str) -> Callable[[str | None], NewEvent]:
    def decide(placed: str | None) -> NewEvent:
        if placed is not None:
            raise Refused(f"the request was taken already, as order {placed}")
        return NewEvent(
            "OrderPlaced", {"order": order}, tags=[f"order:{order}", f"request:{token}"]
        )

    return decide
