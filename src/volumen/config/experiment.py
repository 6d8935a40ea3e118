"""What a run is for: a hypothesis, what it expects, and the criteria by which it will be judged."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from volumen.config.base import Section
from volumen.config.loss import Terms
from volumen.criteria import CriterionError, parse_criterion

_OLD_KEYS = {"quantity", "at_least", "at_most"}


def _from_old_form(value: Any) -> Any:
    """`{quantity, at_least, at_most}`, as configurations had it before criteria were expressions."""
    if not isinstance(value, dict):
        return value
    low, high, name = value.get("at_least"), value.get("at_most"), value.get("quantity")
    if not set(value) <= _OLD_KEYS or not isinstance(name, str) or (low is None and high is None):
        raise ValueError("a criterion is a text such as 'val.loss < 0.45 by epoch 20': write it in quotes")
    if low is not None and high is not None:
        return f"{name} within {low!r}..{high!r}"
    return f"{name} <= {high!r}" if low is None else f"{name} >= {low!r}"


def _readable(text: str) -> str:
    """A criterion as it was written.

    Raises:
        ValueError: It is none; the message names the letter.
    """
    try:
        parse_criterion(text)
    except CriterionError as error:
        raise ValueError(error.in_one_line) from None
    return text


Expression = Annotated[str, BeforeValidator(_from_old_form), AfterValidator(_readable)]
"""A criterion, see `volumen.criteria`."""
Probability = Annotated[float, Field(ge=0, le=1)]


class ExpectedOutcome(Section):
    """Something that may come of an experiment."""

    what: Annotated[str, Field(min_length=1)]
    """In words."""
    probability: Probability | None = None
    """How likely it is thought to be, before the run."""
    criterion: Expression | None = None
    """When it has come true, where that can be said of the records."""


def check_outcomes(outcomes: tuple[ExpectedOutcome, ...]) -> None:
    """Outcomes exclude each other.

    Raises:
        ValueError: Their probabilities add up to more than 1.
    """
    total = sum(one.probability or 0.0 for one in outcomes)
    if total > 1 + 1e-9:
        raise ValueError(f"probabilities add up to {total:g}, and outcomes exclude each other: at most 1")


class Experiment(Section):
    """The question that a run is for."""

    hypothesis: str = ""
    """Why this configuration should be better than its parent."""
    parent: str = ""
    """Run folder of the parent, for criteria such as `val.dice > parent + 0.02`; or its name in the ledger."""
    expected: str = ""
    """What will be seen if the hypothesis holds."""
    outcomes: tuple[ExpectedOutcome, ...] = ()
    """What may come of it; outcomes exclude each other, so that their probabilities add up to at most 1."""
    fallback: str = ""
    """What is done next where it fails."""
    intent: Literal["none", "less_surface", "more_surface"] = "none"
    """Which way class weights, focal alpha and threshold are meant to push the share of predicted surface."""
    criteria: tuple[Expression, ...] = ()
    """When the run counts as a success: texts such as `val.loss < 0.45 by epoch 20`, see docs/experiments.md."""
    ran: Terms | None = None
    """For the record of a run whose code optimised something else than its file said: what really ran."""

    @model_validator(mode="after")
    def _exclusive(self) -> "Experiment":
        check_outcomes(self.outcomes)
        return self
