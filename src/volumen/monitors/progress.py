"""R4, R5, R12: plateaus and what kind they are, overfitting, and scores that say different things."""

import math
from collections.abc import Iterator, Sequence

from volumen.monitors.memory import Memory
from volumen.monitors.seen import EpochSeen, Seen, ValidationSeen
from volumen.monitors.sign import Sign
from volumen.monitors.statistics import finite, median, noise_of, rank_correlation, slope

LEAST_WINDOW, WINDOW_SHARE = 6, 0.34
NEAR_CONSTANT, NEAR_FLOOR = 0.93, 0.12
EXHAUSTED = 0.02  # of the base rate
TERM_SPAN = 0.02  # of a term's distance between constant and floor
OVERFIT_COUNT, OVERFIT_NOISE, OVERFIT_FALL, OVERFIT_RISE = 3, 2.0, 0.04, 0.03
GENERALISATION_GAP = 0.35
DISAGREEMENT, DISAGREEMENT_COUNT = 0.5, 10


def plateau(memory: Memory, record: Seen) -> Iterator[Sign]:
    """R4: neither slope nor gain beyond the noise over the last third of the run; says which kind of plateau."""
    if not isinstance(record, ValidationSeen):
        return
    metrics = memory.metrics
    size = max(LEAST_WINDOW, math.ceil(WINDOW_SHARE * (memory.setting.planned_epochs or len(metrics))))
    size = min(size, max(LEAST_WINDOW, len(metrics) // 2 + 1))
    if len(metrics) < size + 1:
        return
    window, before = metrics[-size:], metrics[:-size]
    _, low, high = slope(window)
    gain = max(window) - max(before)
    if not low <= 0.0 <= high or gain > 2 * memory.noise:
        return
    kind, why = _kind(memory)
    yield Sign(
        "R4", "plateau", "note" if kind == "converged" else "warn",
        f"{memory.metric_name} gained {gain:+.4f} in {size} validations, the noise is {memory.noise:.4f}; {why}",
        record.epoch, record.step, kind, {"gain": gain, "noise": memory.noise, "best": max(metrics)},
    )  # fmt: skip


def _kind(memory: Memory) -> tuple[str, str]:
    """The kind of a plateau, and the numbers that say so."""
    progress = memory.train_progress[-3:]
    r = median(progress) if progress else math.nan
    if r > NEAR_CONSTANT:
        return "constant", f"progress r is {r:.2f}, and 1 is what a constant prediction gets"
    if r < NEAR_FLOOR:
        return "converged", f"progress r is {r:.2f}, and 0 is the lowest that the objective allows"
    stuck = _stuck_term(memory.epochs)
    if stuck is not None:
        return "term_floor", stuck
    base, rates = memory.setting.base_rate, [one.rate for one in memory.epochs if one.rate is not None]
    if base and rates and rates[-1] < EXHAUSTED * base:
        return "rate_exhausted", f"the learning rate has fallen to {rates[-1]:.1e}, {rates[-1] / base:.1%} of its base"
    cosines = [one.gradient_cosine for one in memory.probes[-3:] if one.gradient_cosine is not None]
    if cosines and median(cosines) < 0.05:
        return "noise", f"successive gradients have almost nothing in common (cosine {median(cosines):.2f})"
    known = "" if math.isnan(r) else f"progress r is {r:.2f}"
    return "unexplained", known or "nothing else is known of it"


def _stuck_term(epochs: Sequence[EpochSeen]) -> str | None:
    """A weighted term that has not moved since the start, and stands for a large part of the loss."""
    if len(epochs) < LEAST_WINDOW:
        return None
    for name in epochs[-1].weighted:
        values = [one.progress[name] for one in epochs if name in one.progress]
        share = epochs[-1].weighted[name] / max(sum(abs(value) for value in epochs[-1].weighted.values()), 1e-12)
        if len(values) < LEAST_WINDOW or share < 0.1:
            continue
        if max(values) - min(values) < TERM_SPAN and values[-1] > 0.9:
            return f"the term {name} has stayed at {epochs[-1].terms.get(name, math.nan):.3f} since the start"
    return None


def overfitting(memory: Memory, record: Seen) -> Iterator[Sign]:
    """R5: the training loss falls while the metric on held-out volumes falls, or the two have parted."""
    if not isinstance(record, ValidationSeen):
        return
    metrics, trained, noise = memory.metrics, memory.train_course, memory.noise
    count = OVERFIT_COUNT + 3
    if len(metrics) >= count and len(trained) >= count:
        best = max(median(metrics[index : index + 3]) for index in range(len(metrics) - 2))
        fall = best - max(metrics[-OVERFIT_COUNT:])
        gained = median(trained[-2 * OVERFIT_COUNT : -OVERFIT_COUNT]) - median(trained[-OVERFIT_COUNT:])
        if fall > max(OVERFIT_NOISE * noise, OVERFIT_FALL) and gained > 0.01:
            yield Sign(
                "R5", "overfitting", "warn",
                f"{memory.metric_name} on held-out volumes fell by {fall:.3f} from {best:.3f}, while the training loss "
                f"still falls (by {gained:.3f})",
                record.epoch, record.step, "falling", {"fall": fall, "gained": gained, "noise": noise},
            )  # fmt: skip
    if not metrics:
        yield from _parting_losses(memory, record)
    trained, held_out = memory.train_progress, memory.validation_progress
    if len(held_out) >= 3 and len(trained) >= 3:
        gap = median(held_out[-3:]) - median(trained[-3:])
        if gap > GENERALISATION_GAP and median(trained[-3:]) < 0.7:
            yield Sign(
                "R5", "overfitting", "warn",
                f"r is {median(trained[-3:]):.2f} on training patches, {median(held_out[-3:]):.2f} on held-out volumes",
                record.epoch, record.step, "gap", {"gap": gap},
            )  # fmt: skip


def _parting_losses(memory: Memory, record: ValidationSeen) -> Iterator[Sign]:
    """Where there is no metric: the loss on held-out data has risen for good, while that in training falls."""
    losses, trained = finite(memory.validation_losses), memory.train_course
    if len(losses) < OVERFIT_COUNT + 3 or len(trained) < OVERFIT_COUNT + 3:
        return
    best, last = min(losses), min(losses[-OVERFIT_COUNT:])
    noise = noise_of(losses) or 0.0
    gained = median(trained[-2 * OVERFIT_COUNT : -OVERFIT_COUNT]) - median(trained[-OVERFIT_COUNT:])
    if last - best > max(3 * noise, OVERFIT_RISE * abs(best)) and gained > 0.005:
        yield Sign(
            "R5", "overfitting", "warn",
            f"the loss on held-out data was {best:.4f} and is {last:.4f} and more since, while the training loss still "
            f"falls (by {gained:.1%} of its first value)",
            record.epoch, record.step, "falling", {"rise": last - best, "gained": gained, "noise": noise},
        )  # fmt: skip


def disagreement(memory: Memory, record: Seen) -> Iterator[Sign]:
    """R12: loss and metric rank the states of a run in opposite ways, or totals of two objectives are compared."""
    if not isinstance(record, ValidationSeen):
        return
    name, changes = memory.metric_name, memory.objective_changes
    since = changes[-1] if changes else -1
    pairs = [(one.total, one.metrics[name]) for one in memory.validations
             if one.total is not None and name is not None and name in one.metrics and one.step >= since]  # fmt: skip
    if len(pairs) >= DISAGREEMENT_COUNT:
        found = rank_correlation([one for one, _ in pairs], [other for _, other in pairs])
        if found > DISAGREEMENT:
            yield Sign(
                "R12", "disagreement", "warn",
                f"over {len(pairs)} validations the loss is the lower the worse {name} is (rank correlation "
                f"{found:+.2f})",
                record.epoch, record.step, numbers={"correlation": found},
            )  # fmt: skip
    if changes and any(one.step < since for one in memory.validations):
        yield Sign(
            "R12", "objectives_differ", "note",
            f"the objective changed at step {since}: losses before and after are different sums and cannot be ranked",
            record.epoch, record.step,
        )  # fmt: skip
