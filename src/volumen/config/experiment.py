"""What a run is for: a hypothesis, what it expects, and the numbers by which it will be judged."""

from typing import Literal

from pydantic import model_validator

from volumen.config.base import Section
from volumen.config.loss import Terms


class Criterion(Section):
    """A number that has to be reached for the run to count as a success."""

    quantity: str
    """A validation metric (`dice`, `leaderboard`, `predicted_share`, ...), `validation_loss` (the weighted total), or
    `loss.TERM` (the raw value of a term)."""
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _bounded(self) -> "Criterion":
        if self.at_least is None and self.at_most is None:
            raise ValueError(f"criterion on {self.quantity} has no bound: give at_least, at_most or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"criterion on {self.quantity}: at_least {self.at_least} is above at_most {self.at_most}")
        return self


class Experiment(Section):
    """The question that a run is for."""

    hypothesis: str = ""
    """Why this configuration should be better than its parent."""
    expected: str = ""
    """What will be seen if the hypothesis holds."""
    intent: Literal["none", "less_surface", "more_surface"] = "none"
    """Which way class weights, focal alpha and threshold are meant to push the share of predicted surface."""
    criteria: tuple[Criterion, ...] = ()
    """When the run counts as a success."""
    ran: Terms | None = None
    """For the record of a run whose code optimised something else than its file said: what really ran."""
