"""What was done to a run beside its configuration, and the tournament that is being held: part of its state.

All of it is plain values that pydantic checks, one text in a checkpoint, and nothing where nothing was ever done.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError

from volumen.config.base import Section
from volumen.config.intervention import Intervention
from volumen.config.loss import Weight
from volumen.config.optimisation import Norm, Optimiser, Schedule, WeightAverage
from volumen.errors import DamagedError

Number = Annotated[int, Field(ge=0, le=2**48)]
Interventions = tuple[Intervention, ...]
REPAIRS, BRANCH = "repairs", "branch"


class Changes(Section):
    """What holds in place of the configuration's values; a rollback brings back those of the state it goes to."""

    weights: dict[str, Weight] = Field(default_factory=dict)
    """Of terms, in every phase."""
    schedule: Schedule | None = None
    optimiser: Optimiser | None = None
    gradient_clip: Norm | None = None
    average: WeightAverage | None = None
    unfrozen: tuple[str, ...] = ()
    """Parameters that were not trained before."""


class Trial(Section):
    """How a branch ended."""

    interventions: Interventions
    """Empty for the control."""
    metric: float | None
    """Selection metric; None where it has no value, or the branch failed."""
    cases: dict[str, float] = Field(default_factory=dict)
    """The same by held-out volume, where it has a value."""
    loss: float | None = None
    """Validation loss under the run's objective; None where the interventions changed it."""
    steps: Number = 0
    failed: str = ""
    """Why it did not come to its end."""


class Progress(Section):
    """A tournament that is being held; the state beside it is the one that every branch begins with."""

    cause: str
    """What it answers, in a word."""
    signs: tuple[str, ...]
    """What the monitors saw, a sentence each."""
    branches: tuple[Interventions, ...]
    """The control first, without interventions."""
    steps: Number
    """Of each branch."""
    sigma: float
    loss_sigma: float = 0.0
    """Noise of the validation loss."""
    """Noise of the selection metric."""
    before: float | None = None
    """The last validation's metric."""
    trials: tuple[Trial, ...] = ()
    """The branches that have ended."""
    request: Number | None = None
    """Of a person, where one asked for it."""


class Repairs(Section):
    """What a run remembers of its repairs."""

    changes: Changes = Changes()
    tournament: Progress | None = None
    tried: tuple[Interventions, ...] = ()
    """Remedies that did not help, to be tried again after all others; forgotten as soon as one helps."""
    held: Number = 0
    """Tournaments."""
    kept: Number = 0
    """Tournaments that a remedy won."""
    cost_steps: Number = 0
    """Steps of all branches."""
    seconds: float = 0.0
    """What they took, validations included; part of the run's time."""
    quiet_until: Number = 0
    """Epoch before which no tournament begins."""
    restarts: Number = 0
    """Times that the run went back to its last checkpoint after a number that was not finite."""
    requests: Number = 0
    """Requests of people that were answered."""

    def but(self, **changes: Any) -> "Repairs":
        """The same with other values."""
        return self.model_copy(update=changes)

    def to_state(self) -> dict[str, str]:
        """Its part of a checkpoint: none where nothing was done."""
        return {} if self == Repairs() else {REPAIRS: self.model_dump_json()}

    @staticmethod
    def of(state: Mapping[str, Any], origin: str) -> "Repairs":
        """The repairs in a checkpoint.

        Raises:
            DamagedError: They are not what was written.
        """
        written = state.get(REPAIRS)
        if written is None:
            return Repairs()
        try:
            return Repairs.model_validate_json(written if isinstance(written, str) else "")
        except ValidationError as error:
            raise DamagedError(
                f"{origin} is a damaged checkpoint: its {REPAIRS} cannot be read: train again, or use the volumen that "
                "made it"
            ) from error

    def record(self) -> dict[str, int]:
        """What a run's status says of them."""
        return {"tournaments": self.held, "kept": self.kept, "cost_steps": self.cost_steps, "restarts": self.restarts}
