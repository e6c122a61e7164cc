"""A domain for tests: accounts, as a decider and as an aggregate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from indelible import Aggregate, Decider


@dataclass(frozen=True)
class Opened:
    owner: str


@dataclass(frozen=True)
class Deposited:
    amount: int


@dataclass(frozen=True)
class Withdrawn:
    amount: int


AccountEvent = Opened | Deposited | Withdrawn


class Refused(Exception):
    """What was asked for is against the rules."""


# As functions -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Open:
    owner: str


@dataclass(frozen=True)
class Deposit:
    amount: int


@dataclass(frozen=True)
class Withdraw:
    amount: int


AccountCommand = Open | Deposit | Withdraw


@dataclass(frozen=True)
class AccountState:
    owner: str | None = None
    balance: int = 0


def decide(command: AccountCommand, account: AccountState) -> list[AccountEvent]:
    match command:
        case Open(owner):
            return [] if account.owner == owner else [Opened(owner)]
        case Deposit(amount):
            return [Deposited(amount)]
        case Withdraw(amount):
            if amount > account.balance:
                raise Refused(f"{account.balance} is less than {amount}")
            return [Withdrawn(amount)]
        case _:
            assert_never(command)


def evolve(account: AccountState, event: AccountEvent) -> AccountState:
    match event:
        case Opened(owner):
            return AccountState(owner, account.balance)
        case Deposited(amount):
            return AccountState(account.owner, account.balance + amount)
        case Withdrawn(amount):
            return AccountState(account.owner, account.balance - amount)
        case _:
            assert_never(event)


accounts = Decider(decide, evolve, AccountState)


# As a class ---------------------------------------------------------------------------------------


class Account(Aggregate[AccountEvent]):
    owner: str | None = None
    balance: int = 0

    def open(self, owner: str) -> None:
        if self.owner != owner:
            self.record(Opened(owner))

    def deposit(self, amount: int) -> None:
        self.record(Deposited(amount))

    def withdraw(self, amount: int) -> None:
        if amount > self.balance:
            raise Refused(f"{self.balance} is less than {amount}")
        self.record(Withdrawn(amount))

    def evolve(self, event: AccountEvent) -> None:
        match event:
            case Opened(owner):
                self.owner = owner
            case Deposited(amount):
                self.balance += amount
            case Withdrawn(amount):
                self.balance -= amount
            case _:
                assert_never(event)
