"""Settings of the optimiser, of the learning rate and of everything that may touch the weights besides."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from volumen.config.base import Count, Epoch, Section
from volumen.config.data import Patch

Rate = Annotated[float, Field(gt=0.0, le=1000.0)]
LowestRate = Annotated[float, Field(ge=0.0, le=1000.0)]
Decay = Annotated[float, Field(ge=0.0, le=1000.0)]
Memory = Annotated[float, Field(ge=0.0, lt=1.0)]
Large = Annotated[float, Field(ge=1.0, le=1e12)]
Norm = Annotated[float, Field(gt=0.0, le=1e12)]


class Sgd(Section):
    """Stochastic gradient descent."""

    kind: Literal["sgd"] = "sgd"
    learning_rate: Rate = 0.01
    weight_decay: Decay = 3e-5
    momentum: Memory = 0.99
    nesterov: bool = True

    @model_validator(mode="after")
    def _nesterov(self) -> "Sgd":
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov needs a momentum above 0: set nesterov to false or momentum to 0.9")
        return self


class AdamW(Section):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    kind: Literal["adamw"] = "adamw"
    learning_rate: Rate = 1e-3
    weight_decay: Decay = 0.01
    betas: tuple[Memory, Memory] = (0.9, 0.999)
    eps: Annotated[float, Field(ge=1e-16, le=1.0)] = 1e-8


Optimiser = Annotated[Sgd | AdamW, Field(discriminator="kind")]


class Constant(Section):
    """The learning rate stays as it is."""

    kind: Literal["constant"] = "constant"
    warmup_epochs: Epoch = 0


class Polynomial(Section):
    """learning_rate * (1 - t / T)^power at epoch t of the T planned."""

    kind: Literal["polynomial"] = "polynomial"
    warmup_epochs: Epoch = 0
    power: Annotated[float, Field(gt=0.0, le=100.0)] = 0.9


class CosineWarmRestarts(Section):
    """Cosine from the learning rate to `minimum_rate`, again and again (Loshchilov and Hutter 2017)."""

    kind: Literal["cosine_warm_restarts"] = "cosine_warm_restarts"
    warmup_epochs: Epoch = 0
    period_epochs: Count = 10
    """Length of the first period (T_0)."""
    period_factor: Annotated[int, Field(ge=1, le=100)] = 2
    """Each period is this many times as long as the one before (T_mult)."""
    minimum_rate: LowestRate = 1e-6
    """eta_min."""


class Plateau(Section):
    """Multiply the learning rate by `factor` after `patience` validations without a lower validation loss."""

    kind: Literal["plateau"] = "plateau"
    warmup_epochs: Epoch = 0
    patience: Epoch = 5
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    threshold: Annotated[float, Field(ge=0.0, le=1.0)] = 1e-4
    """Relative improvement of the validation loss that counts."""
    minimum_rate: LowestRate = 1e-6


class OneCycle(Section):
    """Up to the learning rate, then down to almost nothing, both along a cosine (Smith and Topin 2019)."""

    kind: Literal["one_cycle"] = "one_cycle"
    rising_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    start_divisor: Large = 25.0
    end_divisor: Large = 1e4


Schedule = Annotated[
    Constant | Polynomial | CosineWarmRestarts | Plateau | OneCycle,
    Field(discriminator="kind"),
]


class WeightAverage(Section):
    """Exponential moving average of the weights, updated after each step."""

    decay: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.999
    """Share kept per step; in the first steps it rises from (1 + n) / (10 + n) so that the start is forgotten."""


class StochasticWeightAverage(Section):
    """Equal average of the weights over late epochs (Izmailov et al. 2018)."""

    start_epoch: Epoch = 30
    learning_rate: Rate | None = None
    """Constant learning rate from the start epoch on; null leaves the schedule in charge."""
    update_every_epochs: Count = 1


class WeightNoise(Section):
    """Gaussian noise on the weights every few epochs."""

    start_epoch: Epoch = 30
    every_epochs: Count = 10
    std: Rate = 0.001
    """Standard deviation, relative to each tensor's own standard deviation."""
    decay: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    """Factor on `std` after each injection."""
    layers: tuple[str, ...] = ("*",)
    """Shell patterns of parameter names, such as `encoder*`."""


class EarlyStopping(Section):
    """Stop after `patience` validations without an improvement of the selection metric by `minimum_delta`."""

    patience: Count = 20
    minimum_delta: Annotated[float, Field(ge=0.0, le=1000.0)] = 0.0


class Degradation(Section):
    """When the validation loss counts as degraded, and whether the run goes back to its best state then."""

    epochs: Count = 3
    """Validations in a row above the best that count as sustained degradation."""
    catastrophic_share: Annotated[float, Field(gt=0.0, le=1e6)] = 0.15
    """A validation loss this far above the best one (relative) is catastrophic."""
    rollback: bool = False
    """Restore the best state on a catastrophic degradation: weights, optimiser, schedule and averages together."""


class PlanIntervention(Section):
    """The case study's intervention: after sustained degradation restore the best state, scale the learning rate.

    At the n-th plateau scale = min(maximum_scale, multiplier(n) * factor), where factor is
    reference_gradient_norm / gradient_norm held between 1 and maximum_gradient_factor. The multiplier's three forms
    are that study's.
    """

    kind: Literal["plan"] = "plan"
    formula: Literal["standard", "aggressive", "conservative"] = "conservative"
    """standard 1.0 + 0.3 (n - 1), aggressive 1.5 + 0.85 (n - 1), conservative 1.0 + 0.15 (n - 1)."""
    reference_gradient_norm: Norm = 1.0
    maximum_gradient_factor: Large = 25.0
    maximum_scale: Large = 125.0
    maximum_interventions: Count = 3
    enough_improvement: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    """No intervention once the validation loss is this share below its first value."""


class Tournament(Section):
    """Answer what the monitors see by trying: remedies against a control that changes nothing, from the same state.

    Each is trained for the same steps on the same patches and validated; one stays only if it beats the control by more
    than twice the noise of the metric. Otherwise the run goes on as if nothing had been tried.
    """

    kind: Literal["tournament"] = "tournament"
    candidates: Annotated[int, Field(ge=1, le=10)] = 2
    """Remedies that are tried at once, beside the control."""
    steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Length of each trial in steps; null means as many as lie between two validations."""
    maximum_share: Annotated[float, Field(gt=0.0, le=10.0)] = 0.25
    """Steps of all trials together, as a share of the run's planned steps (and of its time, with a time budget)."""
    cool_off_epochs: Count = 5
    """After a tournament no other one begins for so many epochs."""
    minimum_sigma: Annotated[float, Field(gt=0.0, le=1000.0)] = 0.002
    """The least noise of the selection metric that is assumed; its own is found from the run's validations."""


def _with_kind(value: Any) -> Any:
    """Configurations that are older than the choice of a policy mean the plan's."""
    return {"kind": "plan", **value} if isinstance(value, dict) else value


class FullValidation(Section):
    """Every labelled voxel of every held-out volume."""

    kind: Literal["full"] = "full"


class CropValidation(Section):
    """Crops of the held-out volumes: cheaper on large volumes, and noisier."""

    kind: Literal["crops"] = "crops"
    per_volume: Annotated[int, Field(ge=1, le=10_000)] = 2
    """Crops of each held-out volume; its numbers are their means."""
    crop: Patch | None = None
    """Size of a crop in voxels, z y x; null means the training patch."""
    fresh: bool = False
    """Draw other crops at every validation. Two validations then differ even with the same weights."""


Validation = Annotated[FullValidation | CropValidation, Field(discriminator="kind")]


class Monitoring(Section):
    """What watches a run while it goes on; it changes nothing in it."""

    probe_every_steps: Count | None = 50
    """Steps from one closer look at gradients, updates, channels and outputs to the next; a look costs about a step."""


class Training(Section):
    """Length of the run, and what watches over it."""

    epochs: Count = 200
    validate_every_epochs: Count = 1
    validation: Validation = FullValidation()
    selection_metric: Literal["leaderboard_quick", "leaderboard", "surface_dice", "dice", "voi", "topo"] = "dice"
    """The fixed, weight-independent metric by which the best checkpoint is chosen; higher is better for all of them."""
    gradient_clip: Norm | None = 12.0
    """Largest global gradient norm; null never clips."""
    average: WeightAverage | None = WeightAverage()
    """Moving average of the weights; validated and kept beside the plain weights."""
    swa: StochasticWeightAverage | None = None
    weight_noise: WeightNoise | None = None
    early_stopping: EarlyStopping | None = None
    degradation: Degradation = Degradation()
    intervention: Annotated[
        Annotated[PlanIntervention | Tournament, Field(discriminator="kind")] | None, BeforeValidator(_with_kind)
    ] = None
    """What is done when a run does not go well: null does nothing, plan is the case study's recipe, tournament tries
    remedies and keeps what helps."""
    keep_going: bool = False
    """Train on where the monitors see a fault of data, labels or configuration, which a tournament would not mend and
    which ends a run that has this policy."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the network's steps with PyTorch's compiler, which takes a minute at the start; auto does where it is
    known to gain."""
    cuda_graph: Literal["auto", "off"] = "auto"
    """On CUDA, record a step's kernels once and launch them by one call, where memory allows; off launches each."""
    monitoring: Monitoring | None = Monitoring()
    """Null leaves the run unwatched."""
