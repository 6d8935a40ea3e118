"""P9: which difference between two validations is real, and does the run act on smaller ones?

Before a run there are no trained weights, so a stand-in predicts: the sheetness of the image, cut where its Dice is
best. Its errors lie where the image is hard, as a network's do. The same prediction is validated again and again:

- *protocol*: standard deviation of one validation at fixed weights. It is 0 where every voxel is validated, or the same
  crops each time; with fresh crops it is what two epochs differ by without anything having changed.
- *volumes*: standard error over the held-out volumes: what the score says of volumes that are not among them.
- *paired*: standard error of the difference of two like predictors on the same volumes: the sheetness at two scales.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from volumen.config.optimisation import CropValidation, PlanIntervention, Plateau, Training
from volumen.config.schema import Config
from volumen.criteria import demands, known_quantity, parse_criterion, print_criterion
from volumen.data.dataset import PreparedDataset
from volumen.data.labels import IGNORE, SURFACE
from volumen.data.packed import Region
from volumen.doctor.check import Check
from volumen.doctor.context import Context, once
from volumen.doctor.findings import Finding, Severity
from volumen.doctor.objective.check import autopsies
from volumen.doctor.sheetness import hessian_sheetness
from volumen.losses import CompositeLoss
from volumen.metrics import ratio
from volumen.metrics.comparison import NOISE_ERRORS
from volumen.system.output import counted
from volumen.training.objective import CLASS_WEIGHTED
from volumen.training.regions import validation_regions
from volumen.training.validate import loss_on_blocks, mask_metrics
from volumen.training.watch import Watch

CASES = 3
REPEATS = 5
SCALES_VOXELS = (2.0, 1.5)
CONFIDENCE = 2.0  # logit of the stand-in on either side: probabilities of 0.12 and 0.88
TRIALS = 300
TOTAL = "validation_loss"
METRICS = ("dice", "leaderboard_quick", "surface_dice", "voi")


@dataclass(frozen=True)
class Noise:
    """The noise of one quantity."""

    quantity: str
    value: float
    """At the stand-in's prediction."""
    protocol: float
    """Standard deviation of a validation at fixed weights."""
    volumes: float
    """Standard error over the held-out volumes."""
    paired: float
    """Standard error of the difference of two like predictors on the same volumes."""

    @property
    def between_epochs(self) -> float:
        """The least difference of two validations of one run that is more than noise (two standard deviations)."""
        return NOISE_ERRORS * math.sqrt(2) * self.protocol

    @property
    def between_runs(self) -> float:
        """The least difference of two runs with the same held-out volumes that would be seen on other volumes too."""
        return NOISE_ERRORS * math.hypot(self.paired, math.sqrt(2) * self.protocol)


@dataclass(frozen=True)
class ProtocolNoise:
    """The noise of every quantity under one validation protocol."""

    quantities: tuple[Noise, ...]
    held_out: int
    """Held-out volumes; some of them were looked at."""
    looked_at: int
    seen_share: float
    """Share of their voxels that one validation sees."""

    def of(self, quantity: str) -> Noise | None:
        """The noise of a quantity; None where it was not measured."""
        return next((noise for noise in self.quantities if noise.quantity == quantity), None)


@once
def protocol_noise(context: Context) -> ProtocolNoise:
    """The noise of a run's validation, in the loss of its last phase too."""
    return measure_noise(context.config, context.dataset, context.validation, list(context.objectives.values())[-1])


def measure_noise(
    config: Config, dataset: PreparedDataset, held_out: Sequence[str], objective: CompositeLoss | None
) -> ProtocolNoise:
    """Validate a stand-in's prediction again and again.

    Args:
        config: Protocol, seed and training patch.
        dataset: Prepared volumes.
        held_out: Ids of the held-out cases; up to three are looked at.
        objective: For the noise of the validation loss; None leaves it out, for terms that cost seconds.
    """
    held_out = [name for name in held_out if dataset.case(name).surface_voxels] or held_out
    picks = np.unique(np.linspace(0, len(held_out) - 1, CASES).round().astype(int)).tolist()
    protocol = config.training.validation
    repeats = REPEATS if isinstance(protocol, CropValidation) and protocol.fresh else 1
    names = (*METRICS, *([] if objective is None else [TOTAL]))
    tables, seen = [], []
    for pick in picks:
        image, label = np.asarray(dataset.image(held_out[pick])), np.asarray(dataset.lesson(held_out[pick]))
        regions = [validation_regions(config, label, pick, epoch) for epoch in range(repeats)]
        predictions = [_stand_in(image, label, scale) for scale in SCALES_VOXELS]
        tables.append([[_mean(logits, label, each, objective) for each in regions] for logits in predictions])
        seen.append(sum(label[region].size for region in regions[0]) / label.size)
    table = np.asarray(tables)  # [case, scale, repeat, quantity]
    means, count = table.mean(axis=2), len(held_out)
    within = table[:, 0].var(axis=1, ddof=1).mean(axis=0) if repeats > 1 else np.zeros(len(names))
    noises = zip(
        names,
        means[:, 0].mean(axis=0).tolist(),
        np.sqrt(within / count).tolist(),
        _standard_error(means[:, 0], count),
        _standard_error(means[:, 0] - means[:, 1], count),
        strict=True,
    )
    return ProtocolNoise(tuple(Noise(*one) for one in noises), count, len(picks), float(np.mean(seen)))


def _standard_error(values: NDArray[np.float64], count: int) -> list[float]:
    """Of the mean over `count` cases, from some of them [case, quantity]; NaN where one case tells nothing."""
    if len(values) < 2:
        return [math.nan] * values.shape[1]
    errors: list[float] = (values.std(axis=0, ddof=1) / math.sqrt(count)).tolist()
    return errors


def false_alarms(settings: Training, total: float, sigma: float, validations: int, *, seed: int = 0) -> float:
    """The chance that a run whose loss stays where it is is rolled back or intervened in, by noise alone.

    Args:
        settings: Thresholds and switches.
        total: The validation loss.
        sigma: Standard deviation of one validation.
        validations: How many the run has.
        seed: Of the random numbers.
    """
    random = np.random.default_rng(seed)
    alarms = 0
    for series in total + sigma * random.standard_normal((TRIALS, validations)):
        watch = Watch()
        verdicts = [watch.after_validation(settings, epoch, float(value), 0.5) for epoch, value in enumerate(series)]
        alarms += any(verdict.rollback or verdict.intervene for verdict in verdicts)
    return alarms / TRIALS


def _mean(
    logits: NDArray[np.float32], label: NDArray[np.uint8], regions: Sequence[Region], objective: CompositeLoss | None
) -> NDArray[np.float64]:
    """Every quantity of one validation of one volume, in the order of METRICS, the loss last."""
    rows = []
    for region in regions:
        metrics = mask_metrics((logits[region] > 0).astype(np.uint8), label[region], full=False)
        loss = [] if objective is None else [loss_on_blocks(objective, logits[region], label[region])[0]]
        rows.append([*(metrics[name] for name in METRICS), *loss])
    mean: NDArray[np.float64] = np.mean(rows, axis=0)
    return mean


def _stand_in(image: NDArray[np.generic], label: NDArray[np.uint8], scale_voxels: float) -> NDArray[np.float32]:
    """Logits from the image's sheetness, cut at the quantile and with the sign that give the best Dice."""
    sheetness = hessian_sheetness(image, scale_voxels)
    known = label != IGNORE
    values, true = sheetness[known], label[known] == SURFACE
    best, cut, sign = -1.0, 0.0, 1.0
    for direction in (1.0, -1.0):
        for share in (0.05, 0.1, 0.15, 0.2, 0.3, 0.4):
            edge = float(np.quantile(values[::7] * direction, 1 - share))
            chosen = values * direction > edge
            dice = ratio(2 * int((chosen & true).sum()), int(chosen.sum()) + int(true.sum()))
            if dice > best:
                best, cut, sign = dice, edge, direction
    mask = (sheetness * np.float32(sign) > cut).astype(np.float32)
    smooth: NDArray[np.float32] = ndimage.uniform_filter(mask, 2)
    return np.asarray(CONFIDENCE * (2 * np.where(mask > 0, np.maximum(smooth, 0.75), np.minimum(smooth, 0.25)) - 1))


LARGEST_CHANCE = 0.05  # of a rollback or intervention on a run whose loss does not change
LONGEST_SERIES = 60  # validations that are simulated
QUANTITY_OF = {"leaderboard": "leaderboard_quick", "topo": "leaderboard_quick"}  # as near as the quick metrics come


def check_protocol(context: Context) -> Iterator[Finding]:
    """Whether a difference that the run acts on is larger than the noise of its own validation."""
    yield from _other_objectives(context)
    protocol = context.config.training.validation
    if isinstance(protocol, CropValidation) and protocol.fresh:
        noise = protocol_noise(context)
        yield from _fresh_crops(context, noise)
        yield from _thresholds(context, noise)
        yield from _degradation(context, noise)


def _fresh_crops(context: Context, noise: ProtocolNoise) -> Iterator[Finding]:
    metric = _selection(context.config, noise)
    yield Finding(
        code="P9",
        severity=Severity.warn,
        title="every validation looks at other voxels",
        evidence=(
            f"one validation sees {noise.seen_share:.1%} of {counted(noise.held_out, 'held-out volume')}, drawn "
            "anew each time: "
            f"at fixed weights (a stand-in with {metric.quantity} {metric.value:.3f}) {metric.quantity} scatters by "
            f"{metric.protocol:.4f}, so two epochs differ by up to {metric.between_epochs:.4f} for no reason"
        ),
        causes=("training.validation draws fresh crops",),
        remedies=(
            "training.validation: {kind: full}",
            "fresh: false, which looks at the same crops each time",
            "more crops: the scatter falls with the root of their number",
        ),
        where=context.where("training.validation"),
    )


def _thresholds(context: Context, noise: ProtocolNoise) -> Iterator[Finding]:
    training, schedule = context.config.training, context.config.schedule
    metric, loss = _selection(context.config, noise), noise.of(TOTAL)
    if training.early_stopping is not None:
        delta = training.early_stopping.minimum_delta
        yield from _below_noise(context, "training.early_stopping.minimum_delta", delta, metric)
    if isinstance(schedule, Plateau) and loss is not None:
        yield from _below_noise(context, "schedule.threshold", schedule.threshold * abs(loss.value), loss)


def _below_noise(context: Context, key: str, threshold: float, noise: Noise) -> Iterator[Finding]:
    least = NOISE_ERRORS * noise.protocol
    if threshold < least:
        yield Finding(
            code="P9",
            severity=Severity.stop,
            title=f"{key} lies below the noise of the validation",
            evidence=(
                f"an improvement of {threshold:.4f} counts; at fixed weights {noise.quantity} scatters by "
                f"{noise.protocol:.4f}, so less than {least:.4f} (two standard deviations) is luck"
            ),
            causes=("validation on few, changing crops",),
            remedies=(
                "training.validation: {kind: full}",
                f"a threshold of at least {least:.4f}",
            ),
            where=context.where(key),
        )


def _degradation(context: Context, noise: ProtocolNoise) -> Iterator[Finding]:
    training, loss = context.config.training, noise.of(TOTAL)
    acts = isinstance(training.intervention, PlanIntervention) or training.degradation.rollback
    validations = min(training.epochs // training.validate_every_epochs, LONGEST_SERIES)
    if loss is None or not acts or validations < 1:
        return
    chance = false_alarms(training, loss.value, loss.protocol, validations)
    if chance > LARGEST_CHANCE:
        rule = training.degradation
        yield Finding(
            code="P9",
            severity=Severity.stop,
            title="noise alone counts as degradation",
            evidence=(
                f"{chance:.0%} of simulated runs whose loss never changes ({loss.value:.3f}, scatter "
                f"{loss.protocol:.4f}) are rolled back or intervened in within "
                f"{counted(validations, 'validation')}, by "
                f"{rule.epochs} in a row above the best or {rule.catastrophic_share:.0%} above it"
            ),
            causes=("the best of many noisy values is a lucky one: the next ones lie above it",),
            remedies=("training.validation: {kind: full}", "intervention: null, rollback: false"),
            where=context.where("training.degradation"),
        )


def _other_objectives(context: Context) -> Iterator[Finding]:
    """Criteria on the total where the total is not what it is elsewhere."""
    demanded = [one for text in context.config.experiment.criteria for one in demands(parse_criterion(text))]
    judged = [one for one in demanded if known_quantity(one).name == "val.loss"]
    parent = context.parent
    if not judged:
        return
    if len(context.objectives) > 1:
        phases = ", ".join(name for name, _ in context.phases)
        others = f"the run's own phases ({phases}) have different objectives"
    elif parent is not None and _objective(parent) != _objective(context.config):
        changed = sorted({key for key, _ in _objective(parent) ^ _objective(context.config)})
        others = f"{parent.name}, on which it is based, has another objective ({', '.join(changed)} differ)"
    else:
        return
    bounds = ", ".join(print_criterion(one) for one in judged)
    reach = list(autopsies(context).values())[-1].total
    yield Finding(
        code="P9",
        severity=Severity.warn,
        title="success is judged by a total that cannot be compared",
        evidence=(
            f"{bounds}; {others}; here the total runs from {reach.floor:.3f} (best attainable) to "
            f"{reach.baseline:.3f} (constant), which another objective changes"
        ),
        causes=("losses with different weights are different quantities",),
        remedies=("judge by dice or leaderboard, which do not depend on the weights", "compare progress r, not losses"),
        where=context.where("experiment.criteria"),
    )


def _objective(config: Config) -> set[tuple[str, str]]:
    """Every active term with its settings, in a form that can be compared."""
    terms = {name: term for name, term in config.loss.terms.present().items() if term.weight > 0}
    found = {(f"loss.terms.{name}", term.model_dump_json()) for name, term in terms.items()}
    if config.loss.class_weights.enabled and set(CLASS_WEIGHTED) & set(terms):
        found.add(("loss.class_weights", config.loss.class_weights.model_dump_json()))
    return found


def _selection(config: Config, noise: ProtocolNoise) -> Noise:
    name = config.training.selection_metric
    found = noise.of(QUANTITY_OF.get(name, name))
    return found or Noise(name, math.nan, math.nan, math.nan, math.nan)


PROTOCOL = Check(code="P9", title="Noise of the protocol", run=check_protocol)
