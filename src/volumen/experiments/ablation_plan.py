"""Which runs an ablation needs: the control and each remedy, from the same starts, for the same steps."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volumen.config.compare import ABSENT
from volumen.config.dump import canonical, config_hash
from volumen.config.load import override_config
from volumen.config.optimisation import Plateau
from volumen.config.remedies import CONTROL, Remedy
from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.models.shapes import difference, tensors_of
from volumen.system.output import counted

FEWEST_EPOCHS = 10
"""Epochs that a run is divided into where its steps allow it, so that phases and schedules have room."""
VALIDATIONS = 2
"""Of a run in which nothing depends on them."""


@dataclass(frozen=True)
class Layout:
    """How the steps of every run are divided."""

    steps: int
    epochs: int
    validate_every_epochs: int

    @property
    def steps_per_epoch(self) -> int:
        """The same in each epoch."""
        return self.steps // self.epochs


@dataclass(frozen=True)
class Candidate:
    """The control or a remedy."""

    name: str
    config: Config
    """With the change, and the length that it was written for."""
    why: str = ""
    changes: Mapping[str, tuple[Any, Any]] | None = None
    """Before and after by key; None for the control. A side that lacks the key is None."""
    written: Mapping[str, Any] | None = None
    """The change as it was asked for, nested."""
    notes: tuple[str, ...] = ()
    """What a reader has to know before comparing it."""
    left_out: str = ""
    """Why it is not run."""


@dataclass(frozen=True)
class Job:
    """One run."""

    candidate: str
    seed: int
    config: Config
    """As it is trained."""
    key: str
    """Names everything that its result depends on."""
    folder: Path


@dataclass(frozen=True)
class AblationPlan:
    """All that is compared, and how."""

    control: Config
    candidates: tuple[Candidate, ...]
    """The control first."""
    layout: Layout
    seeds: tuple[int, ...]
    origin: Mapping[str, Any]
    """What results depend on beside configurations: data set, first weights, version."""
    source: Path | None = None
    """The run whose weights everything begins with."""

    def jobs(self, out: Path) -> tuple[Job, ...]:
        """Every run, seed by seed, so that what is there early can be compared."""
        return tuple(self._job(one, seed, out) for seed in self.seeds for one in self.candidates if not one.left_out)

    def _job(self, candidate: Candidate, seed: int, out: Path) -> Job:
        config = self.run_config(candidate, seed)
        key = hashlib.sha256(
            canonical([config_hash(config), self.reference_hash, dict(self.origin)]).encode()
        ).hexdigest()
        return Job(candidate.name, seed, config, key, out / "runs" / f"{config.name}-{key[:8]}")

    @property
    def reference_hash(self) -> str:
        """Of the objective by which all runs are measured."""
        return config_hash(self.control.loss)

    def run_config(self, candidate: Candidate, seed: int) -> Config:
        """A candidate's configuration as it is trained with a seed."""
        layout, config = self.layout, candidate.config
        settings: dict[str, Any] = {
            "name": f"{candidate.name}-seed{seed}",
            "seed": seed,
            "data.workers": 0,  # a worker process of ours cannot have any; it changes no sample
            "data.sampling.patches_per_epoch": layout.steps_per_epoch * config.data.batch,
            "training.epochs": layout.epochs,
            "training.validate_every_epochs": layout.validate_every_epochs,
            "training.early_stopping": None,
        }
        if self.source is not None:
            settings["model.initial_weights"] = str(self.source)
        overrides = [f"{key}={canonical(value)}" for key, value in settings.items()]
        return override_config(config, overrides, candidate.name).config


def layout_of(steps: int, configured: int, *, reacts: bool) -> Layout:
    """Divide steps into epochs of one length, near the configured one, ten of them or more where that is possible.

    Args:
        steps: Of every run, done exactly.
        configured: Steps of an epoch of the configuration.
        reacts: Whether a schedule or a rollback looks at validations; then there is one after each epoch.
    """
    wanted = max(1, min(configured, steps // FEWEST_EPOCHS))
    divisors = {one for low in range(1, math.isqrt(steps) + 1) if steps % low == 0 for one in (low, steps // low)}
    length = min(sorted(divisors), key=lambda one: abs(math.log(one / wanted)))
    epochs = steps // length
    return Layout(steps, epochs, 1 if reacts else -(-epochs // VALIDATIONS))


def reacts_to_validations(config: Config) -> bool:
    """Whether a validation may change what a run does next."""
    training = config.training
    return isinstance(config.schedule, Plateau) or training.intervention is not None or training.degradation.rollback


def steps_per_epoch(config: Config) -> int:
    """Whole batches of an epoch."""
    return config.data.sampling.patches_per_epoch // config.data.batch


def candidates_of(
    control: Config, remedies: Sequence[Remedy], inapplicable: Mapping[str, str], source: Path | None
) -> tuple[Candidate, ...]:
    """The control and the remedies; one that cannot be compared is left out, with the reason.

    Args:
        control: The configuration.
        remedies: Changes of it.
        inapplicable: Reasons by name of remedies that it has nothing for.
        source: A run whose weights everything begins with.

    Raises:
        UserError: None is left.
    """
    shape, start = tensors_of(control.model), source or control.model.initial_weights
    found = [Candidate(CONTROL, control, changes=None)]
    for one in remedies:
        other = one.config.model != control.model and difference(shape, tensors_of(one.config.model))
        left_out = ""
        if not one.changes:
            left_out = "the configuration has these values already"
        elif other and start is not None:
            way = "--from" if source is not None else "model.initial_weights"
            left_out = f"it changes the network, which the weights of {start} do not fit: try it without {way}"
        kept = [each for each in one.changes if each.right is not ABSENT]  # what goes with a kind is no news
        changes = {each.key: (_side(each.left), _side(each.right)) for each in kept}
        changes = {key: sides for key, sides in changes.items() if sides != (None, None)}
        found.append(Candidate(one.name, one.config, one.why, changes, one.written, _notes(one, bool(other)), left_out))
    found += [Candidate(name, control, left_out=reason, changes={}) for name, reason in inapplicable.items()]
    if all(one.left_out for one in found[1:]):
        reasons = "; ".join(f"{one.name}: {one.left_out}" for one in found[1:])
        raise UserError(f"there is nothing to try: {reasons}")
    return tuple(found)


def _side(value: Any) -> Any:
    return None if value is ABSENT else value


def _notes(remedy: Remedy, other_network: bool) -> tuple[str, ...]:
    notes = []
    factors = remedy.factors
    if len(factors) > 1:
        notes.append(f"changes {counted(len(factors), 'factor')} at once ({', '.join(factors)}): none can be credited")
    if other_network:
        notes.append("another network: its first weights are drawn by the same seeds and are not the control's")
    seen = [
        key for key in dict.fromkeys(".".join(each.key.split(".")[:2]) for each in remedy.changes) if key[:5] == "data."
    ]
    if seen:
        notes.append(f"sees other patches than the control ({', '.join(seen)}), for as many steps")
    return tuple(notes)
