"""What speaks for and against each cause: a table of clues, each a function of the picture that gives its sentence.

A clue that speaks for a cause has positive points, one against it negative ones. Points were set on one half of the
fault-injection benchmark (`volumen doctor-bench`) and reported on the other.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from volumen.monitors.loss_clues import (
    below_noise,
    objectives_compared,
    raised_rate,
    unreachable,
    worse_than_constant,
)
from volumen.monitors.picture import Picture
from volumen.monitors.statistics import median, rank_correlation

SACRIFICED, BEHIND = 0.95, 0.2
NO_GRADIENT = 1e-8
NOT_A_SHEET = 0.9
"""Share of surface among labelled voxels above which the labels mean something else."""
Says = Callable[[Picture], str | None]
"""The clue in words and numbers, or None where it is not there."""


@dataclass(frozen=True)
class Clue:
    """One thing that speaks for or against a cause."""

    cause: str
    points: float
    says: Says


def sign(code: str, name: str, where: str = "") -> Says:
    """A monitor's sign, in its own words."""

    def says(picture: Picture) -> str | None:
        found = picture.sign(code, name, where)
        return None if found is None else f"{code}: {found.evidence}"

    return says


def finding(code: str, *words: str) -> Says:
    """A finding of the audit, in its own words."""
    return lambda picture: None if (text := picture.finding(code, *words)) is None else f"audit {code}: {text}"


def when(holds: Callable[[Picture], bool], text: Callable[[Picture], str]) -> Says:
    """A condition on the picture's numbers; one on a number that is not known does not hold."""
    return lambda picture: text(picture) if holds(picture) else None


def _never(picture: Picture) -> bool:
    return picture.late and not picture.learned and bool(picture.memory.epochs)


def _never_said(picture: Picture) -> str:
    known = "" if math.isnan(picture.r_best) else f" (training r {picture.r_best:.2f} at best, 1 is a constant's)"
    return f"nothing has been learned in {picture.memory.epoch + 1} epochs{known}"


def _moves(picture: Picture) -> bool:
    return picture.update > 2e-4


def _moves_said(picture: Picture) -> str:
    return f"a step changes the weights by {picture.update:.1e} of their size, as in a healthy run"


def _term_mass(picture: Picture, name: str) -> float:
    return median([one.term_mass.get(name, 0.0) for one in picture.late_probes])


def _detached(picture: Picture) -> str | None:
    """A term of the objective that gives no gradient."""
    for name, weight in picture.memory.setting.weights.items():
        known = [one for one in picture.late_probes if name in one.term_mass]
        if weight > 0 and known and _term_mass(picture, name) < 1e-4:
            return f"the term {name} (weight {weight:g}) gives no gradient on the outputs"
    return None


def _held_out_progress(picture: Picture, term: str) -> list[float]:
    return [one.progress[term] for one in picture.memory.validations[-3:] if term in one.progress]


def sacrificed(picture: Picture) -> str | None:
    """A term that is worse than a constant's on held-out volumes, while the sum is better."""
    for name in picture.memory.setting.weights:
        values = _held_out_progress(picture, name)
        if picture.late and len(values) == 3 and min(values) > 1.0 and picture.r_held_out < SACRIFICED:
            return (
                f"{name} is worse than one value everywhere would make it (r {median(values):.2f}), while the sum is at "
                f"{picture.r_held_out:.2f}: other terms are served at its cost"
            )
    return None


def drowned(picture: Picture) -> str | None:
    """A term that makes all but all of the gradient, and comes down far ahead of the others."""
    found = picture.sign("R8", "domination")
    if found is None or not picture.late:
        return None
    own = median(_held_out_progress(picture, found.where))
    others = [_held_out_progress(picture, name) for name in picture.memory.setting.weights if name != found.where]
    behind = max((median(values) for values in others if values), default=math.nan)
    if not behind - own > BEHIND:
        return None
    return f"{found.where} is at r {own:.2f}, another term still at {behind:.2f}: what is scored is not what is learned"


def all_one_label(picture: Picture) -> str | None:
    """Labels of which all but all is surface: no sheet is."""
    memory = picture.memory
    shares = [one.true_share for one in memory.epochs] + [one.true_share for one in memory.validations]
    share = median([value for value in shares if value is not None])
    if not share > NOT_A_SHEET:
        return None
    return f"{share:.1%} of the labelled voxels are surface: nothing that is thin fills that much"


def _accumulates(picture: Picture) -> str | None:
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


def _criterion(picture: Picture) -> str | None:
    delta, noise = picture.memory.setting.minimum_delta, picture.memory.noise
    if delta is None or len(picture.memory.metrics) < 5 or delta >= 2 * noise:
        return None
    return f"early stopping counts a gain of {delta:g}; validations differ by {noise:.4f} by chance (one sigma)"


def _climbing(picture: Picture) -> str | None:
    """The metric still rises about as fast as ever, far from where it could be."""
    middle, low, _ = picture.metric_slope
    if low <= 0 or math.isnan(picture.r) or picture.r < 0.5 or picture.done < 0.8:
        return None
    return f"at the end the metric still rises by {middle:.4f} a validation, and r is {picture.r:.2f}"


CLUES: tuple[Clue, ...] = (
    Clue("non_finite", 6, sign("R1", "non_finite")),
    Clue("double_activation", 5, sign("R6", "half_range")),
    Clue("labels_wrong", 3, sign("R6", "identical_cases")),
    Clue("labels_wrong", 3.5, all_one_label),
    # images that do not arrive
    Clue("input_lost", 2.5, when(
        lambda p: p.sign("R13", "input_ignored") is not None and p.moved < 1e-6,
        lambda p: "shuffling the image changes nothing at all: what reaches the network is the same for every image",
    )),
    Clue("input_lost", 0.8, sign("R13", "input_ignored")),
    Clue("input_lost", 0.8, when(
        lambda p: p.sign("R13", "input_ignored") is not None and _moves(p),
        lambda p: f"the image does not matter, although {_moves_said(p)}",
    )),
    Clue("input_lost", -2, when(
        lambda p: p.moved > 0.03,
        lambda p: f"shuffling the image moves the probabilities by {p.moved:.3f}",
    )),
    # nothing learned although the weights move
    Clue("pairs_wrong", 1.4, when(
        lambda p: _never(p) and _moves(p),
        lambda p: f"{_never_said(p)}, although {_moves_said(p)}",
    )),
    Clue("pairs_wrong", 1, when(
        lambda p: p.r > 0.9 and p.r_held_out > p.r + 0.03 and _moves(p),
        lambda p: f"what is learned does not hold on other volumes (r {p.r:.2f}, held out {p.r_held_out:.2f})",
    )),
    Clue("pairs_wrong", 0.6, when(
        lambda p: abs(p.gap) < 0.02,
        lambda p: f"probabilities on surface and beside it differ by {p.gap:.3f} only",
    )),
    Clue("pairs_wrong", 3, finding("P7", "shift", "moved", "another volume", "aligned", "belong")),
    Clue("pairs_wrong", -2, when(
        lambda p: p.learned,
        lambda p: f"it has learned something (r {p.r_best:.2f}, gap {p.gap:.2f})",
    )),
    Clue("labels_wrong", 1.8, when(
        lambda p: _never(p) and _moves(p),
        lambda p: f"{_never_said(p)}, although {_moves_said(p)}",
    )),
    Clue("labels_wrong", 3, finding("P1")),
    Clue("labels_wrong", 2.5, finding("P2")),
    Clue("ignore_learned", 3, finding("P2", "ignore", "unlabelled")),
    Clue("ignore_learned", 3, finding("P1", "ignore", "unlabelled")),
    Clue("leak", 4, finding("P7", "in the training part", "duplicate", "near", "both sides")),
    # learning rate
    Clue("rate_too_high", 2.2, sign("R9", "update_too_large")),
    Clue("rate_too_high", 1.2, when(
        lambda p: p.first_update > 0.1,
        lambda p: f"the first steps changed the weights by {p.first_update:.0%} of their size",
    )),
    Clue("rate_too_high", 1, when(
        lambda p: p.aligned < -0.15,
        lambda p: f"successive gradients point against each other (cosine {p.aligned:.2f})",
    )),
    Clue("rate_too_high", -2, when(
        lambda p: p.update < 1e-3,
        lambda p: f"a step changes the weights by {p.update:.1e} of their size only",
    )),
    Clue("rate_too_low", 2.5, sign("R9", "update_too_small")),
    Clue("rate_too_low", 1.5, when(
        lambda p: p.update < 2e-4,
        lambda p: f"a step changes the weights by {p.update:.1e} of their size",
    )),
    Clue("rate_too_low", 0.7, when(
        lambda p: p.aligned > 0.6 and p.r > 0.7,
        lambda p: f"successive gradients agree (cosine {p.aligned:.2f}) and r is still {p.r:.2f}",
    )),
    Clue("rate_too_low", 0.7, _climbing),
    Clue("rate_too_low", -2.5, when(lambda p: p.update > 2e-3, _moves_said)),
    Clue("rate_too_low", -3, when(
        lambda p: p.largest_gradient < NO_GRADIENT,
        lambda p: "no gradient arrives at any weight: no rate makes anything of that",
    )),
    Clue("schedule_exhausted", 3, sign("R10", "rate_at_minimum")),
    Clue("schedule_exhausted", 1.5, sign("R4", "plateau", "rate_exhausted")),
    Clue("clip_too_tight", 2, when(
        lambda p: (found := p.sign("R10", "clipped")) is not None and found.numbers.get("excess", 1) > 20,
        lambda p: sign("R10", "clipped")(p) or "",
    )),
    Clue("clip_too_tight", 0.5, sign("R10", "clipped")),
    Clue("weight_shock", 2.5, sign("R2", "spike")),
    Clue("weight_shock", 1, when(
        lambda p: any(one.kind == "weight_noise" for one in p.memory.events),
        lambda p: "noise was put on the weights",
    )),
    Clue("gradients_accumulate", 3, _accumulates),
    # layers
    Clue("frozen_layers", 2, sign("R9", "frozen")),
    Clue("frozen_layers", 2.5, when(
        lambda p: (found := p.sign("R9", "frozen")) is not None and found.numbers["share"] > 0.7,
        lambda p: "that is most of the network",
    )),
    Clue("frozen_layers", 1.5, sign("R9", "no_gradient")),
    Clue("dead_channels", 2.5, sign("R9", "dead")),
    # objective
    Clue("detached_term", 2.5, _detached),
    Clue("unreachable_term", 2.5, sign("R4", "plateau", "term_floor")),
    Clue("unreachable_term", 1.5, finding("P5")),
    Clue("unreachable_term", 3, unreachable),
    Clue("worse_than_constant", 4, worse_than_constant),
    Clue("dominating_term", 2, sign("R8", "domination")),
    Clue("conflicting_terms", 2, sacrificed),
    Clue("dominating_term", 2, drowned),
    Clue("conflicting_terms", 2.2, sign("R8", "conflict")),
    Clue("class_bias", 2, sign("R7", "too_much_surface")),
    Clue("class_bias", 1.5, sign("R7", "too_little_surface")),
    Clue("class_bias", 1.5, finding("P3")),
    Clue("class_bias", -1.5, when(_never, _never_said)),
    Clue("inverted_objective", 2.5, when(
        lambda p: p.r > 1.1 and p.r > p.r_best + 0.1,
        lambda p: f"the loss rises above the constant's (r {p.r:.2f}) while the weights follow its gradient",
    )),
    Clue("inverted_objective", 1.5, when(
        lambda p: p.gap < -0.1,
        lambda p: f"probabilities are lower on surface than beside it (by {-p.gap:.2f})",
    )),
    Clue("constant_predictor", 1, when(_never, _never_said)),
    Clue("constant_predictor", 0.8, sign("R6", "uniform")),
    # data
    Clue("overfitting", 2.5, sign("R5", "overfitting", "falling")),
    Clue("overfitting", 2, sign("R5", "overfitting", "gap")),
    # protocol
    Clue("wrong_metric", 2.5, sign("R12", "disagreement")),
    Clue("wrong_metric", -2, when(lambda p: p.r > 0.8, lambda p: f"the training loss is no better (r {p.r:.2f})")),
    Clue("wrong_metric", 2, when(
        lambda p: p.r_held_out < 0.6 and p.metric < 0.1,
        lambda p: f"the loss on held-out volumes is good (r {p.r_held_out:.2f}) and the metric is {p.metric:.3f}",
    )),
    Clue("threshold_in_noise", 2.2, _criterion),
    Clue("threshold_in_noise", 3.2, below_noise),
    Clue("objectives_mixed", 3.5, objectives_compared),
    Clue("rate_too_high", 3.4, raised_rate),
    Clue("threshold_in_noise", 1, finding("P9")),
    Clue("objectives_mixed", 1, sign("R12", "objectives_differ")),
    Clue("dead_setting", 2.5, finding("P6")),
    Clue("starved_loader", 1.5, sign("R14", "starved")),
    Clue("normalisation_wrong", 2, finding("P7", "normalis", "grey", "scale")),
)  # fmt: skip
"""Every clue; a new one is added here."""
