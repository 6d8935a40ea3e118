"""A criterion as text that reads back to the same criterion."""

from volumen.criteria.grammar import (
    All,
    Amount,
    AnyOf,
    Comparison,
    Criterion,
    Improves,
    Not,
    OfParent,
    Statement,
    When,
    Within,
)


def print_criterion(criterion: Criterion) -> str:
    """The canonical text: one space between words, and only the parentheses that are needed."""
    if isinstance(criterion, AnyOf):
        return " or ".join(_inside(part, AnyOf) for part in criterion.parts)
    if isinstance(criterion, All):
        return " and ".join(_inside(part, All, AnyOf) for part in criterion.parts)
    if isinstance(criterion, Not):
        return f"not {_inside(criterion.part, All, AnyOf)}"
    return _statement(criterion)


def print_amount(amount: Amount) -> str:
    """Such as `0.45`, `30%` or `400 s`."""
    number = repr(float(amount.number)).removesuffix(".0")
    return f"{number}{amount.unit}" if amount.unit in ("", "%") else f"{number} {amount.unit}"


def print_when(when: When | None) -> str:
    """The time clause with a space before it; empty where there is none."""
    if when is None:
        return ""
    if when.moment in ("end", "best"):
        return " at the end" if when.moment == "end" else " at best"
    if when.moment == "in":
        return f" in epochs {when.first}..{when.last}"
    return f" {when.moment} epoch {when.first}"


def print_bound(bound: Amount | OfParent) -> str:
    """What something is compared with."""
    if isinstance(bound, Amount):
        return print_amount(bound)
    if bound.offset is None:
        return "parent"
    sign = "-" if str(bound.offset.number).startswith("-") else "+"
    return f"parent {sign} {print_amount(Amount(abs(bound.offset.number), bound.offset.unit))}"


def _statement(one: Statement) -> str:
    if isinstance(one, Comparison):
        return f"{one.quantity} {one.operator} {print_bound(one.bound)}{print_when(one.when)}"
    if isinstance(one, Within):
        return f"{one.quantity} within {print_amount(one.low)}..{print_amount(one.high)}{print_when(one.when)}"
    if isinstance(one, Improves):
        return f"{one.quantity} improves by {print_amount(one.amount)} over {_epochs(one.over)}"
    epochs = "" if one.epochs is None else f" in epochs {one.epochs[0]}..{one.epochs[1]}"
    over = "" if one.over is None else f" over {_epochs(one.over)}"
    return f"no {one.quantity} {one.direction} {one.operator} {print_amount(one.amount)}{epochs}{over}"


def _inside(part: Criterion, *weaker: type) -> str:
    text = print_criterion(part)
    return f"({text})" if isinstance(part, weaker) else text


def _epochs(number: int) -> str:
    return f"{number} epoch{'' if number == 1 else 's'}"
