"""A criterion as values: what the parser gives, what is printed, what is judged. All frozen, all comparable.

    criterion  := all ("or" all)*
    all        := one ("and" one)*
    one        := "not" one | "(" criterion ")" | statement
    statement  := QUANTITY ("<" | "<=" | ">" | ">=") (AMOUNT | "parent" [("+" | "-") AMOUNT]) [when]
                | QUANTITY "within" AMOUNT ".." AMOUNT [when]
                | "no" QUANTITY ("drop" | "rise") (">" | ">=") AMOUNT ["in epochs" N ".." N] ["over" N "epochs"]
                | QUANTITY "improves by" AMOUNT "over" N "epochs"
    when       := "by epoch" N | "at epoch" N | "from epoch" N | "in epochs" N ".." N | "at the end" | "at best"
    AMOUNT     := ["-"] NUMBER [UNIT]

Epochs are counted from 1, as runs print them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from volumen.criteria.quantities import UNITS, Quantity, quantity_of

Operator = Literal["<", "<=", ">", ">="]
Moment = Literal["by", "at", "from", "in", "end", "best"]


@dataclass(frozen=True)
class Amount:
    """A number as it was written."""

    number: float
    unit: str = ""

    @property
    def value(self) -> float:
        """In the unit of the records."""
        return self.number * next(units[self.unit] for units in UNITS.values() if self.unit in units)


@dataclass(frozen=True)
class OfParent:
    """The same quantity of the parent's run, and something more or less (a negative number)."""

    offset: Amount | None = None


@dataclass(frozen=True)
class When:
    """Epochs, from 1; 0 where the moment has none."""

    moment: Moment
    first: int = 0
    last: int = 0
    """Of `in`."""


@dataclass(frozen=True)
class Comparison:
    """`val.loss < 0.45 by epoch 20`."""

    quantity: str
    operator: Operator
    bound: Amount | OfParent
    when: When | None = None


@dataclass(frozen=True)
class Within:
    """`surface_share within 30%..70%`, ends included."""

    quantity: str
    low: Amount
    high: Amount
    when: When | None = None


@dataclass(frozen=True)
class NoChange:
    """`no val.dice drop > 0.01 in epochs 3..6`: from the best value before, or the best of so many epochs before."""

    quantity: str
    direction: Literal["drop", "rise"]
    operator: Literal[">", ">="]
    amount: Amount
    epochs: tuple[int, int] | None = None
    over: int | None = None


@dataclass(frozen=True)
class Improves:
    """`val.loss improves by 0.01 over 10 epochs`: the best of the last epochs against the best before them."""

    quantity: str
    amount: Amount
    over: int


@dataclass(frozen=True)
class Not:
    """The opposite."""

    part: "Criterion"


@dataclass(frozen=True)
class All:
    """Joined by `and`; two parts or more."""

    parts: tuple["Criterion", ...]


@dataclass(frozen=True)
class AnyOf:
    """Joined by `or`; two parts or more."""

    parts: tuple["Criterion", ...]


Statement = Comparison | Within | NoChange | Improves
Criterion = Statement | Not | All | AnyOf


def known_quantity(statement: Statement) -> Quantity:
    """The quantity that a statement is about.

    Raises:
        KeyError: Nobody knows it, which the parser refuses.
    """
    found = quantity_of(statement.quantity)
    if found is None:
        raise KeyError(statement.quantity)
    return found


def demands(criterion: Criterion) -> Iterator[Statement]:
    """The statements that all have to hold: those that stand in no `or` and no `not`."""
    if isinstance(criterion, All):
        for part in criterion.parts:
            yield from demands(part)
    elif not isinstance(criterion, Not | AnyOf):
        yield criterion


def statements(criterion: Criterion) -> Iterator[Statement]:
    """Every statement, wherever it stands."""
    if isinstance(criterion, All | AnyOf):
        for part in criterion.parts:
            yield from statements(part)
    elif isinstance(criterion, Not):
        yield from statements(criterion.part)
    else:
        yield criterion


def ceiling_of(statement: Statement) -> float | None:
    """The number that a statement asks to stay below, where it asks that without a parent."""
    if isinstance(statement, Within):
        return statement.high.value
    if isinstance(statement, Comparison) and statement.operator in ("<", "<=") and isinstance(statement.bound, Amount):
        return statement.bound.value
    return None
