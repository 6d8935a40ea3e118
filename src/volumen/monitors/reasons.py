"""What clues look for in a picture: each function gives its sentence with the numbers, or None if it is not there."""

import math
from itertools import pairwise

from volumen.monitors.picture import Picture
from volumen.monitors.statistics import median, rank_correlation

SACRIFICED, BEHIND, LEARNED = 0.9, 0.2, 0.97
PROPER, OF_THE_TRUTH = ("cross_entropy", "focal"), ("cross_entropy", "focal", "soft_dice")
"""Terms whose best constant is the share of surface: nothing that learns is worse. A Dice may be, for a while."""
CONTRADICTION, PARTED, FAR_IN = 0.2, 0.03, 0.75
NO_GRADIENT = 1e-8
MOST_OF_IT, TIGHT, FAR_ABOVE, REWARDED, STARVING = 0.7, 20.0, 1.5, 0.1, 0.5
LEAST_SPREAD, MOST_SPREAD, FARTHEST_MEAN, REACH = 0.12, 20.0, 5.0, 60.0
"""Of what reaches the network; normalised images have mean 0, deviation 1, and a range of some 10 deviations."""
NOT_A_SHEET = 0.55
"""Share of surface among labelled voxels above which the labels mean something else."""


def never(picture: Picture) -> bool:
    return picture.hopeless and not picture.learned and bool(picture.memory.epochs)


def never_said(picture: Picture) -> str:
    known = "" if math.isnan(picture.r_best) else f" (training r {picture.r_best:.2f} at best, 1 is a constant's)"
    return f"nothing has been learned in {picture.memory.epoch + 1} epochs{known}"


def moves(picture: Picture) -> bool:
    return picture.update > 2e-4


def moves_said(picture: Picture) -> str:
    return f"a step changes the weights by {picture.update:.1e} of their size, as in a healthy run"


def detached(picture: Picture) -> str | None:
    """A term of the objective that has given no gradient at any probe."""
    for name, weight in picture.memory.setting.weights.items():
        known = [one.term_mass[name] for one in picture.memory.probes if name in one.term_mass]
        if weight > 0 and len(known) >= 2 and max(known) < 1e-4:
            return f"the term {name} (weight {weight:g}) gives no gradient on the outputs"
    return None


def held_out_progress(picture: Picture, term: str) -> list[float]:
    return [one.progress[term] for one in picture.memory.validations[-3:] if term in one.progress]


def worse_term(picture: Picture) -> str | None:
    """A term of the truth that one value everywhere makes lower, on held-out volumes, far into the run."""
    for name in picture.memory.setting.weights:
        values = held_out_progress(picture, name)
        limit = 1.03 if name in PROPER else 1.05
        if name in OF_THE_TRUTH and picture.late and len(values) == 3 and min(values) > limit:
            return (
                f"{name} on held-out volumes is worse than one value everywhere makes it (r {median(values):.2f}), the "
                f"sum is at {picture.r_held_out:.2f}"
            )
    return None


def sacrificed(picture: Picture) -> str | None:
    """The same, where other terms that do not follow the truth are served."""
    others = [name for name in picture.terms if name not in OF_THE_TRUTH]
    said = worse_term(picture) if others and picture.r_held_out < SACRIFICED else None
    return None if said is None else f"{said}: {', '.join(others)} served at its cost"


def drowned(picture: Picture) -> str | None:
    """A term that makes all but all of the gradient, and comes down far ahead of the others."""
    found = picture.sign("R8", "domination")
    if found is None or not picture.late:
        return None
    own = median(held_out_progress(picture, found.where))
    others = [held_out_progress(picture, name) for name in picture.memory.setting.weights if name != found.where]
    behind = max((median(values) for values in others if values), default=math.nan)
    if not behind - own > BEHIND:
        return None
    return f"{found.where} is at r {own:.2f}, another term still at {behind:.2f}: what is scored is not what is learned"


def no_better_than_surface(picture: Picture) -> str | None:
    """A Dice that surface everywhere has, too, far into the run."""
    if (
        picture.memory.metric_name != "dice"
        or not (picture.late and picture.done >= FAR_IN)
        or not picture.memory.probes
    ):
        return None
    limit = picture.constant_dice + min(2 * picture.memory.noise, 0.03)
    if not picture.metric_best < limit:
        return None
    return (
        f"the Dice on held-out volumes is {picture.metric_best:.3f} at best; surface everywhere has "
        f"{picture.constant_dice:.3f}"
    )


def parted(picture: Picture) -> str | None:
    """A metric that has fallen far while the loss on the same volumes came down."""
    memory = picture.memory
    if (
        picture.sign("R3", "catastrophic") is None and picture.sign("R3", "degraded") is None
    ) or memory.objective_changes:
        return None
    metrics, losses = memory.metrics, memory.validation_progress
    if len(metrics) != len(losses):
        return None
    best = metrics.index(max(metrics))
    if not median(losses[-2:]) < losses[best] - PARTED:
        return None
    return (
        f"{memory.metric_name} fell from {metrics[best]:.2f} to {metrics[-1]:.2f} on held-out volumes, and their loss "
        f"came down (r {losses[best]:.2f} to {losses[-1]:.2f})"
    )


def contradicted_metric(picture: Picture) -> str | None:
    """A loss on held-out volumes, or a share of surface in training, that says the opposite of the metric."""
    if not picture.late:
        return parted(picture)
    rows = [one for one in picture.memory.validations[-3:] if "soft_dice" in one.terms and "dice" in one.metrics]
    if len(rows) == 3:
        promised = median([1 - one.terms["soft_dice"] for one in rows])
        measured = median([one.metrics["dice"] for one in rows])
        if promised - measured > CONTRADICTION and promised > picture.constant_dice:
            return f"by the loss the Dice on held-out volumes is {promised:.2f}, by the metric {measured:.2f}"
    trained = median([one.predicted_share / one.true_share for one in picture.memory.epochs[-3:]
                      if one.predicted_share is not None and one.true_share])  # fmt: skip
    if picture.share_ratio > 3 * max(trained, 1.0) and picture.r_held_out < LEARNED:
        return (
            f"{picture.share_ratio:.1f} times the true surface is counted on held-out volumes, {trained:.1f} times in "
            f"training, and the held-out loss is no worse for it (r {picture.r_held_out:.2f})"
        )
    return parted(picture)


def stopped_by_chance(picture: Picture) -> str | None:
    """A run that early stopping ended while its training loss still fell."""
    memory = picture.memory
    ended = any(event.kind == "early_stopping" for event in memory.events)
    delta, values = memory.setting.minimum_delta, memory.train_progress
    if not ended or delta is None or len(values) < 2 or not picture.done < 0.9:
        return None
    falls = max(values[-3:]) - values[-1] > 0.01
    scatter = max((abs(one - other) for one, other in pairwise(memory.metrics)), default=0.0)
    if not falls or scatter < 2 * delta:
        return None
    return (
        f"early stopping ended the run at {picture.done:.0%} of its epochs, while the training loss still fell; "
        f"validations differ by up to {scatter:.3f}, and a gain of {delta:g} was asked for"
    )


def all_one_label(picture: Picture) -> str | None:
    """Labels of which all but all is surface: no sheet is."""
    if not picture.true_share > NOT_A_SHEET:
        return None
    return f"{picture.true_share:.1%} of the labelled voxels are surface: nothing that is thin fills that much"


def accumulates(picture: Picture) -> str | None:
    """Gradients that grow in proportion to the steps done, and always point the same way."""
    cosines = [one.gradient_cosine for one in picture.memory.probes if one.gradient_cosine is not None]
    norms = [value for one in picture.memory.steps for value in one.gradient_norms]
    if len(cosines) < 2 or median(cosines[-3:]) < 0.95 or len(norms) < 40:
        return None
    early, late = median(norms[: len(norms) // 8]), median(norms[-len(norms) // 8 :])
    grown = late / max(early, 1e-12)
    if grown < 5 or rank_correlation(range(len(norms)), norms) < 0.7:
        return None
    return (
        f"the gradient has grown {grown:.0f} times and successive ones are all but the same (cosine "
        f"{median(cosines[-3:]):.3f}), as if they were never cleared"
    )


def criterion(picture: Picture) -> str | None:
    delta, noise = picture.memory.setting.minimum_delta, picture.memory.noise
    if delta is None or len(picture.memory.metrics) < 5 or delta >= 2 * noise:
        return None
    return f"early stopping counts a gain of {delta:g}; validations differ by {noise:.4f} by chance (one sigma)"


def climbing(picture: Picture) -> str | None:
    """The metric still rises about as fast as ever, far from where it could be."""
    middle, low, _ = picture.metric_slope
    if low <= 0 or math.isnan(picture.r) or picture.r < 0.5 or picture.done < 0.8:
        return None
    return f"at the end the metric still rises by {middle:.4f} a validation, and r is {picture.r:.2f}"


def odd_scale(picture: Picture) -> str | None:
    """Grey values that are far from where a network expects them, or of which a few stand for the whole range."""
    known = [one.image for one in picture.memory.probes if "spread" in one.image]
    if not known:
        return None
    spread, mean = median([one["spread"] for one in known]), median([one["mean"] for one in known])
    reach = median([one["most"] - one["least"] for one in known]) / max(spread, 1e-9)
    if (
        spread > LEAST_SPREAD
        and spread < MOST_SPREAD
        and abs(mean) < FARTHEST_MEAN * max(spread, 1.0)
        and reach < REACH
    ):
        return None
    return (
        f"the grey values that reach the network have mean {mean:.3g} and standard deviation {spread:.3g}, and their "
        f"range is {reach:.0f} times that"
    )


def sees_nothing(picture: Picture) -> str | None:
    """Images whose voxels can be shuffled without any change at all."""
    known = [one.moved for one in picture.memory.probes[-2:] if one.moved is not None]
    if len(known) < 2 or max(known) > 1e-6:
        return None
    return "shuffling the image changes nothing at all: what reaches the network is the same for every image"


def cannot_learn(picture: Picture) -> str | None:
    """A reason in the machinery why the weights do not learn, whatever the labels say."""
    frozen, clipped = picture.sign("R9", "frozen"), picture.sign("R10", "clipped")
    small = picture.sign("R9", "update_too_small")
    if frozen is not None and frozen.numbers["share"] > MOST_OF_IT:
        return "most weights do not change"
    if clipped is not None and clipped.numbers.get("excess", 1.0) > TIGHT:
        return "gradients are clipped to a small part of themselves"
    if picture.rate_is_nothing or small is not None or picture.sign("R10", "rate_at_minimum") is not None:
        return "the steps are too small to learn anything"
    if picture.largest_gradient < NO_GRADIENT:
        return "no gradient arrives at any weight"
    return sees_nothing(picture) or detached(picture)


def far_above_constant(picture: Picture) -> str | None:
    """A training loss that stays far above a constant's; a start at the labels' share may be, for an epoch or two."""
    values = picture.memory.train_progress
    if len(values) < 4 or not min(values[-3:]) > FAR_ABOVE:
        return None
    return f"the training loss is far above that of one value everywhere (r {values[-1]:.1f})"


def serves_others(picture: Picture) -> bool:
    """Whether the objective has terms that do not follow the truth."""
    return any(name not in OF_THE_TRUTH for name in picture.terms)


def rewarded_error(picture: Picture) -> str | None:
    """A term of the truth that gets worse than a constant's in training, while the sum gets better."""
    epochs = [one for one in picture.memory.epochs if "total" in one.progress]
    if len(epochs) < 3:
        return None
    totals = [one.progress["total"] for one in epochs]
    for name in OF_THE_TRUTH:
        values = [one.progress[name] for one in epochs if name in one.progress]
        fell = totals[0] - median(totals[-3:]) > 0.05
        if len(values) >= 3 and min(values[-2:]) > max(values[0], 1.0) + REWARDED and fell:
            return f"{name} has risen to r {values[-1]:.2f} while the sum comes down: what should be punished is not"
    return None


def starves(picture: Picture) -> str | None:
    """A network that waits for patches more than it computes."""
    found = picture.sign("R14", "starved")
    if found is None or not found.numbers["share"] > STARVING:
        return None
    return f"{found.evidence}: more than half of it"


def jumped(picture: Picture) -> str | None:
    """A loss that rose by much from one step to the next and stayed there, under the same objective."""
    found = picture.sign("R2", "jump")
    return None if found is None else found.evidence
