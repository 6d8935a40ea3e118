"""What a monitor sees of a training, whoever trained it: epochs, steps, probes, validations, events.

A run of ours has all of it; a log of another program has what its lines say, and the rest is empty. Nothing here is
computed: `history.py` reads a run of ours into these, `logs/` the logs of others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

NOTHING: Mapping[str, float] = {}
TOTAL = "total"
"""The sum of the weighted terms, beside the terms' own names."""


@dataclass(frozen=True)
class EpochSeen:
    """An epoch's training steps, as means; from 0."""

    epoch: int
    step: int
    """Optimiser steps of the run when the epoch ended."""
    total: float | None = None
    terms: Mapping[str, float] = field(default_factory=dict)
    """Raw values, unweighted."""
    weighted: Mapping[str, float] = field(default_factory=dict)
    progress: Mapping[str, float] = field(default_factory=dict)
    """Progress r by term and `total`: 1 is the best constant, 0 the best attainable."""
    rate: float | None = None
    gradient_norm: float | None = None
    clipped_share: float | None = None
    predicted_share: float | None = None
    true_share: float | None = None
    seconds: float | None = None
    loader_seconds: float | None = None
    memory_gb: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Scores on training data, where a log has them; higher is better."""


@dataclass(frozen=True)
class StepsSeen:
    """The steps of an epoch one by one, in their order."""

    epoch: int
    step: int
    """Of the last one."""
    totals: tuple[float, ...] = ()
    gradient_norms: tuple[float, ...] = ()


@dataclass(frozen=True)
class ProbeSeen:
    """A closer look at one step: what costs too much to look at in each."""

    epoch: int
    step: int
    update_ratio: Mapping[str, float] = field(default_factory=dict)
    """Norm of a step's change over norm of the weights, by parameter."""
    gradient: Mapping[str, float] = field(default_factory=dict)
    """Norm of the gradient by parameter; 0 where none came."""
    frozen: tuple[str, ...] = ()
    """Parameters that are not trained, as the run was told or not."""
    dead_share: Mapping[str, float] = field(default_factory=dict)
    """Share of channels without any spread, by layer."""
    term_mass: Mapping[str, float] = field(default_factory=dict)
    """Norm of each weighted term's gradient on the logits, as a share of their sum."""
    term_cosine: Mapping[str, float] = field(default_factory=dict)
    """Cosine of two weighted terms' gradients on the logits, by `one|other`."""
    gradient_cosine: float | None = None
    """Of the gradients of two successive steps: what they share is signal, the rest is noise of the patches."""
    noise_scale: float | None = None
    """Gradient noise scale in patches (McCandlish et al. 2018): batches far below it see mostly noise."""
    batch: int | None = None
    loss: float | None = None
    shuffled_loss: float | None = None
    """With the voxels of the images shuffled; the same as `loss` where the image does not matter."""
    moved: float | None = None
    """Mean change of the probabilities by that shuffling."""
    image: Mapping[str, float] = field(default_factory=dict)
    """Of the grey values that reach the network: `mean`, `spread`, `least`, `most`."""
    probability: Mapping[str, float] = field(default_factory=dict)
    """Of the predicted probabilities: `mean`, `least`, `most`, `spread` over voxels, `between` (spread of the means of
    patches), `entropy` (nats), `above_half`, `gap` (mean on surface less mean beside it); of the labels `true_mean`,
    `true_between`."""


@dataclass(frozen=True)
class ValidationSeen:
    """One validation."""

    epoch: int
    step: int
    total: float | None = None
    terms: Mapping[str, float] = field(default_factory=dict)
    progress: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Higher is better for all of them."""
    cases: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The same by volume, with `predicted_share` and `true_share`."""
    predicted_share: float | None = None
    true_share: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class EventSeen:
    """Something out of the ordinary that was done to the run or happened to it."""

    epoch: int
    step: int
    kind: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    text: str = ""


Seen = EpochSeen | StepsSeen | ProbeSeen | ValidationSeen | EventSeen


@dataclass(frozen=True)
class RunFacts:
    """What is known of a training beside its records."""

    selection_metric: str | None = None
    """The fixed metric by which states are chosen; None where only a loss is known."""
    planned_epochs: int | None = None
    batch: int | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weight of each term of the objective."""
    minimum_delta: float | None = None
    """An improvement that early stopping or a criterion asks for."""
    base_rate: float | None = None
    gradient_clip: float | None = None
    schedule: str | None = None
    scale: tuple[float, float] | None = None
    """Floor and best constant of the training loss."""
    full_validation: bool = True
    """Every labelled voxel, the same each time; crops are noisier."""


@dataclass(frozen=True)
class History:
    """A training, read to its end or as far as it is."""

    setting: RunFacts
    records: tuple[Seen, ...]
    """In the order in which they happened."""
    source: str = ""
    """What to call it."""
    faults: tuple[str, ...] = ()
    """What could not be read, a sentence each."""
