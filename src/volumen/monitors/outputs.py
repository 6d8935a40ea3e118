"""R6, R7, R13: outputs that say nothing, shares of surface that are off, and images that do not matter."""

from collections.abc import Callable, Iterator, Sequence

from volumen.monitors.memory import Memory
from volumen.monitors.seen import ProbeSeen, Seen, ValidationSeen
from volumen.monitors.sign import Sign
from volumen.monitors.statistics import median

ONE_CLASS, ALMOST_NONE = 0.995, 1e-4
LEAST_TRUE = 2e-3  # a truth with less surface than this may be missed without a fault
HALF_RANGE = (0.4999, 0.7312)  # what a second sigmoid can give
UNIFORM_SPREAD = 0.02
BIAS = 2.0
SHUFFLE_SHARE, SHUFFLE_MOVED = 0.01, 0.01
EARLY = 0.3


def outputs(memory: Memory, record: Seen) -> Iterator[Sign]:
    """R6: one value, one class, the range of a second sigmoid, the same share on different volumes."""
    if isinstance(record, ValidationSeen):
        yield from _shares(memory, record)
    if not isinstance(record, ProbeSeen) or not record.probability:
        return
    found = record.probability
    least, most, spread = found.get("least", 0.0), found.get("most", 1.0), found.get("spread", 1.0)
    if HALF_RANGE[0] <= least and most <= HALF_RANGE[1] and spread > 1e-4 and _last(memory.probes, 2, _is_half):
        yield Sign(
            "R6", "half_range", "stop",
            f"all probabilities lie between {least:.3f} and {most:.3f}: what a sigmoid of a sigmoid can give",
            record.epoch, record.step, numbers={"least": least, "most": most},
        )  # fmt: skip
    if _is_past(memory, EARLY) and _last(memory.probes, 2, _is_uniform):
        yield Sign(
            "R6", "uniform", "warn",
            f"the predicted probabilities hardly differ (standard deviation {spread:.4f} around {found['mean']:.3f})",
            record.epoch, record.step, numbers={"spread": spread, "mean": found["mean"]},
        )  # fmt: skip


def _is_half(probe: ProbeSeen) -> bool:
    found = probe.probability
    return HALF_RANGE[0] <= found.get("least", 0.0) and found.get("most", 1.0) <= HALF_RANGE[1]


def _is_uniform(probe: ProbeSeen) -> bool:
    return probe.probability.get("spread", 1.0) < UNIFORM_SPREAD


def _last(probes: Sequence[ProbeSeen], count: int, holds: Callable[[ProbeSeen], bool]) -> bool:
    return len(probes) >= count and all(map(holds, probes[-count:]))


def _is_past(memory: Memory, share: float) -> bool:
    done = memory.share_done
    return done is not None and done >= share


def _shares(memory: Memory, record: ValidationSeen) -> Iterator[Sign]:
    predicted, true = record.predicted_share, record.true_share
    if predicted is None or true is None:
        return
    last = memory.validations[-2:]
    if len(last) == 2 and _is_past(memory, EARLY):
        ones = [one.predicted_share for one in last if one.predicted_share is not None]
        is_one = len(ones) == 2 and (min(ones) > max(ONE_CLASS, true) or max(ones) < ALMOST_NONE)
        if LEAST_TRUE < true < 1 - LEAST_TRUE and is_one:
            yield Sign(
                "R6", "one_class", "warn",
                f"{100 * predicted:.2f} % of the held-out voxels are predicted as surface, {100 * true:.2f} % are",
                record.epoch, record.step, "surface" if min(ones) > 0.5 else "background",
                {"predicted": predicted, "true": true},
            )  # fmt: skip
    shares = [one.get("predicted_share", 0.0) for one in record.cases.values()]
    truths = [one.get("true_share", 0.0) for one in record.cases.values()]
    inside = [value for value in shares if ALMOST_NONE < value < ONE_CLASS]
    if len(inside) >= 3 and len(set(inside)) == 1 and len(set(truths)) > 1:
        yield Sign(
            "R6", "identical_cases", "stop",
            f"{len(inside)} different volumes have the identical predicted share of surface, {inside[0]:.6f}",
            record.epoch, record.step, numbers={"share": inside[0]},
        )  # fmt: skip


def bias(memory: Memory, record: Seen) -> Iterator[Sign]:
    """R7: predicted share of surface over the true one, outside of a half to the double for three validations."""
    if not isinstance(record, ValidationSeen) or not _is_past(memory, EARLY) or len(memory.validations) < 3:
        return
    ratios = [one.predicted_share / one.true_share for one in memory.validations[-3:]
              if one.predicted_share is not None and one.true_share]  # fmt: skip
    if len(ratios) < 3:
        return
    numbers = {"ratio": median(ratios)}
    times = f"{median(ratios):.2f} times as much surface as" if median(ratios) >= 0.01 else "all but nothing of what"
    said = f"{times} the labels hold is predicted on held-out volumes, in three validations"
    if min(ratios) > BIAS:
        yield Sign("R7", "too_much_surface", "warn", said, record.epoch, record.step, numbers=numbers)
    if max(ratios) < 1 / BIAS:
        yield Sign("R7", "too_little_surface", "warn", said, record.epoch, record.step, numbers=numbers)


def ignored_input(memory: Memory, record: Seen) -> Iterator[Sign]:
    """R13: the voxels of the image are shuffled, and nothing changes."""
    if not isinstance(record, ProbeSeen) or not _is_past(memory, EARLY) or len(memory.probes) < 2:
        return
    loss, shuffled = record.loss, record.shuffled_loss
    if loss is not None and shuffled is not None and all(_ignores(one) for one in memory.probes[-2:]):
        yield Sign(
            "R13", "input_ignored", "warn",
            f"with the image's voxels shuffled the loss is {shuffled:.4f}, with the image {loss:.4f}; the "
            f"probabilities move by {record.moved or 0.0:.4f}",
            record.epoch, record.step, numbers={"loss": loss, "shuffled": shuffled, "moved": record.moved or 0.0},
        )  # fmt: skip


def _ignores(probe: ProbeSeen) -> bool:
    if probe.loss is None or probe.shuffled_loss is None:
        return False
    return abs(probe.shuffled_loss - probe.loss) < SHUFFLE_SHARE * max(abs(probe.loss), 1e-6) and (
        probe.moved is None or probe.moved < SHUFFLE_MOVED
    )
