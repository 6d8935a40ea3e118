"""R1 to R3: numbers that are none, spikes, and runs that get worse."""

import math
from collections.abc import Iterator

from volumen.monitors.memory import Memory
from volumen.monitors.seen import TOTAL, EpochSeen, EventSeen, Seen, StepsSeen, ValidationSeen
from volumen.monitors.sign import Sign
from volumen.monitors.statistics import finite, median, robust_scores

SPIKE_SCORE, SPIKE_RISE, SPIKE_WINDOW = 6.0, 0.1, 60
JUMP_STEPS, JUMP_WINDOW, JUMP_RISE, JUMP_SPREADS = 4, 12, 0.2, 1.5
DEGRADED_NOISE, DEGRADED_LEAST, DEGRADED_COUNT = 3.0, 0.05, 3
CATASTROPHIC_SHARE, CATASTROPHIC_NOISE = 0.15, 6.0
SETTLED = 0.35  # share of a run after which being worse than a constant is no beginning any more


def non_finite(memory: Memory, record: Seen) -> Iterator[Sign]:
    """R1: a loss, a term or a gradient that is no number."""
    found: list[tuple[str, float]] = []
    if isinstance(record, StepsSeen):
        bad = [value for value in (*record.totals, *record.gradient_norms) if not math.isfinite(value)]
        found += [("a step's loss or gradient", bad[0])] if bad else []
    elif isinstance(record, EpochSeen | ValidationSeen):
        values = {TOTAL: record.total, **record.terms}
        if isinstance(record, EpochSeen):
            values["gradient norm"] = record.gradient_norm
        found += [(name, value) for name, value in values.items() if value is not None and not math.isfinite(value)]
    elif isinstance(record, EventSeen) and record.kind == "non_finite":
        yield Sign(
            "R1", "non_finite", "stop", record.text or "a loss or gradient was no number", record.epoch, record.step
        )
    for name, _ in found[:1]:
        evidence = f"{name} was not a finite number in epoch {record.epoch + 1}"
        yield Sign("R1", "non_finite", "stop", evidence, record.epoch, record.step, name)


def spike(memory: Memory, record: Seen) -> Iterator[Sign]:
    """R2: the gradient jumps, and the loss with it, and does not come back at once."""
    if not isinstance(record, StepsSeen) or not record.totals:
        return
    totals = [value for one in memory.steps[-8:] for value in one.totals]
    norms = [value for one in memory.steps[-8:] for value in one.gradient_norms]
    if len(norms) != len(totals):
        return
    scores = robust_scores([math.log(max(value, 1e-12)) for value in norms], SPIKE_WINDOW, 0.15)
    scale = _range(memory)
    first = len(totals) - len(record.totals)
    for index in range(max(first, SPIKE_WINDOW // 3), len(totals)):
        if scores[index] <= SPIKE_SCORE:
            continue
        before, after = median(totals[max(0, index - 20) : index]), median(totals[index : index + 5])
        rise = (after - before) / scale
        if rise > SPIKE_RISE:
            step = record.step - len(totals) + index
            yield Sign(
                "R2", "spike", "warn",
                f"in step {step + 1} the gradient norm rose to {norms[index]:.3g} (robust score {scores[index]:.1f}), "
                f"and the loss from {before:.4f} to {after:.4f}",
                record.epoch, step, numbers={"score": scores[index], "rise": rise, "before": before, "after": after},
            )  # fmt: skip
            return


def jump(memory: Memory, record: Seen) -> Iterator[Sign]:
    """R2: the loss rises by much from one step to the next and stays, whatever the gradient: the weights were hit."""
    if not isinstance(record, StepsSeen) or len(record.totals) < JUMP_STEPS:
        return
    before = [value for one in memory.steps[-4:-1] for value in one.totals]
    totals, scale = [*before, *record.totals], _range(memory)
    for index in range(max(len(before), JUMP_WINDOW), len(totals) - JUMP_STEPS + 1):
        step = record.step - len(totals) + index
        if any(abs(change - step) <= 1 for change in memory.objective_changes):
            return
        past = finite(totals[index - JUMP_WINDOW : index])
        least = min(totals[index : index + JUMP_STEPS], default=math.nan)
        if len(past) < JUMP_WINDOW or not least > max(past):
            continue
        rise = median(totals[index : index + JUMP_STEPS]) - median(past)
        spread = max(past) - min(past)
        if rise > JUMP_RISE * scale and rise > JUMP_SPREADS * spread:
            said = f"after step {step} the loss rose from {median(past):.3f} to {least:.3f} at once, and stayed there"
            yield Sign("R2", "jump", "warn", said, record.epoch, step, numbers={"rise": rise / scale})
            return


def _range(memory: Memory) -> float:
    """What a loss can move between its best constant and its floor; else what it moved so far."""
    if memory.setting.scale is not None:
        floor, baseline = memory.setting.scale
        return max(baseline - floor, 1e-6)
    totals = finite([one.total for one in memory.epochs if one.total is not None])
    return max(max(totals) - min(totals), 0.1 * abs(totals[0]), 1e-6) if totals else 1.0


def degraded(memory: Memory, record: Seen) -> Iterator[Sign]:
    """R3: the metric has fallen for good, at once by much, or the run is worse than a constant."""
    if not isinstance(record, ValidationSeen):
        return
    metrics, noise = memory.metrics, memory.noise
    if len(metrics) >= DEGRADED_COUNT + 2:
        best = max(median(metrics[index : index + 3]) for index in range(len(metrics) - 2))
        last = metrics[-DEGRADED_COUNT:]
        limit = max(DEGRADED_NOISE * noise, DEGRADED_LEAST)
        if all(value < best - limit for value in last):
            worst = best - max(last)
            yield Sign(
                "R3", "degraded", "warn",
                f"{memory.metric_name} was {best:.3f} and at most {max(last):.3f} in {DEGRADED_COUNT} later ones: "
                f"{worst / noise:.1f} times the noise of {noise:.4f} between validations",
                record.epoch, record.step, numbers={"best": best, "last": max(last), "noise": noise},
            )  # fmt: skip
    if len(metrics) >= 4:
        best, now = max(metrics[:-1]), max(metrics[-2:])
        if best - now > max(CATASTROPHIC_SHARE * best, CATASTROPHIC_NOISE * noise, 0.08) and best > 0.1:
            yield Sign(
                "R3", "catastrophic", "stop",
                f"{memory.metric_name} fell from {best:.3f} to {now:.3f}, {(best - now) / noise:.0f} times the noise",
                record.epoch, record.step, numbers={"best": best, "last": now, "noise": noise},
            )  # fmt: skip
    yield from _worse_than_constant(memory, record)


def _worse_than_constant(memory: Memory, record: ValidationSeen) -> Iterator[Sign]:
    progress, done = memory.validation_progress, memory.share_done
    late = done is None or done >= SETTLED
    if late and len(progress) >= 3 and min(progress[-3:]) > 1.0:
        yield Sign(
            "R3", "worse_than_constant", "warn",
            f"the validation loss is worse than the best constant prediction's: r {min(progress[-3:]):.2f} and above "
            "in three validations (1 is the constant)",
            record.epoch, record.step, numbers={"progress": progress[-1]},
        )  # fmt: skip
