"""P9: is a difference that the run acts on larger than the noise of its own validation?"""

import math
from collections.abc import Iterator

from volumen.config.optimisation import CropValidation, Plateau
from volumen.config.schema import Config
from volumen.doctor.audit.check import Check
from volumen.doctor.audit.context import Context
from volumen.doctor.findings import Finding, Severity
from volumen.doctor.protocol_noise import TOTAL, Noise, ProtocolNoise, false_alarms
from volumen.metrics.comparison import NOISE_ERRORS
from volumen.system.output import counted
from volumen.training.objective import CLASS_WEIGHTED

LARGEST_CHANCE = 0.05  # of a rollback or intervention on a run whose loss does not change
LONGEST_SERIES = 60  # validations that are simulated
QUANTITY_OF = {"leaderboard": "leaderboard_quick", "topo": "leaderboard_quick"}  # as near as the quick metrics come


def check_protocol(context: Context) -> Iterator[Finding]:
    """P9."""
    yield from _other_objectives(context)
    protocol = context.config.training.validation
    if isinstance(protocol, CropValidation) and protocol.fresh:
        noise = context.noise
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
    acts = training.intervention is not None or training.degradation.rollback
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
    judged = [one for one in context.config.experiment.criteria if one.quantity == TOTAL]
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
    bounds = ", ".join(f"{one.quantity} <= {one.at_most:g}" for one in judged if one.at_most is not None)
    reach = list(context.autopsies.values())[-1].total
    yield Finding(
        code="P9",
        severity=Severity.warn,
        title="success is judged by a total that cannot be compared",
        evidence=(
            f"{bounds or TOTAL}; {others}; here the total runs from {reach.floor:.3f} (best attainable) to "
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


PROTOCOL = Check(
    code="P9",
    title="Noise of the protocol",
    symptom="Best epochs that come and go, early stopping at random, and interventions that answer to nothing.",
    why=(
        "A validation on one random crop of each volume scatters. The best of many noisy values is a lucky one, so the "
        "next three lie above it; an improvement smaller than the scatter is none. And totals of objectives with other "
        "weights are other quantities."
    ),
    measured=(
        "A stand-in (the image's sheetness, cut where its Dice is best) is validated five times under the run's own "
        "protocol. Thresholds below two standard deviations are refused; runs whose loss never changes are simulated "
        "with the run's own rules, and more than 5 % of false alarms are too many. Validation of fixed voxels has no "
        "noise of this kind. `volumen audit noise` prints it all."
    ),
    remedy="Validate the same voxels each time, all of them where time allows.",
    run=check_protocol,
)
