"""What speaks for and against each cause: a table of clues, each a function of the picture that gives its sentence.

A clue that speaks for a cause has positive points, one against it negative ones. Points were set on one half of the
fault-injection benchmark (`volumen doctor-bench`) and reported on the other.
"""

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
from volumen.monitors.reasons import (
    NO_GRADIENT,
    accumulates,
    all_one_label,
    cannot_learn,
    climbing,
    contradicted_metric,
    criterion,
    detached,
    drowned,
    far_above_constant,
    jumped,
    moves,
    moves_said,
    never,
    never_said,
    no_better_than_surface,
    odd_scale,
    rewarded_error,
    sacrificed,
    sees_nothing,
    serves_others,
    starves,
    stopped_by_chance,
    worse_term,
)

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
    return lambda picture: (text(picture) or None) if holds(picture) else None


CLUES: tuple[Clue, ...] = (
    Clue("non_finite", 6, sign("R1", "non_finite")),
    Clue("double_activation", 5, sign("R6", "half_range")),
    Clue("labels_wrong", 3, sign("R6", "identical_cases")),
    Clue("labels_wrong", 3.5, all_one_label),
    Clue("labels_wrong", 1.0, no_better_than_surface),
    Clue("labels_wrong", 1.6, worse_term),
    Clue("pairs_wrong", 1.0, worse_term),
    Clue("labels_wrong", 1.6, when(
        lambda p: p.true_share > 0.4,
        lambda p: f"{p.true_share:.0%} of the labelled voxels are surface, which is much for something thin",
    )),
    # images that do not arrive
    Clue("input_lost", 4.5, sees_nothing),
    Clue("input_lost", 0.8, sign("R13", "input_ignored")),
    Clue("input_lost", 0.8, when(
        lambda p: p.sign("R13", "input_ignored") is not None and moves(p),
        lambda p: f"the image does not matter, although {moves_said(p)}",
    )),
    Clue("input_lost", -2, when(
        lambda p: p.moved > 0.03,
        lambda p: f"shuffling the image moves the probabilities by {p.moved:.3f}",
    )),
    # nothing learned although the weights move
    Clue("labels_wrong", -3, cannot_learn),
    Clue("pairs_wrong", -3, cannot_learn),
    Clue("class_bias", -3, cannot_learn),
    Clue("wrong_metric", -3, cannot_learn),
    Clue("pairs_wrong", 1.4, when(
        lambda p: never(p) and moves(p),
        lambda p: f"{never_said(p)}, although {moves_said(p)}",
    )),
    Clue("pairs_wrong", 1, when(
        lambda p: p.r > 0.9 and p.r_held_out > p.r + 0.03 and moves(p),
        lambda p: f"what is learned does not hold on other volumes (r {p.r:.2f}, held out {p.r_held_out:.2f})",
    )),
    Clue("pairs_wrong", 0.3, when(
        lambda p: abs(p.gap) < 0.02,
        lambda p: f"probabilities on surface and beside it differ by {p.gap:.3f} only",
    )),
    Clue("pairs_wrong", 3, finding("P7", "shifted", "moved", "turned", "lie elsewhere")),
    Clue("labels_wrong", 3, finding("P7", "next to nothing")),
    Clue("pairs_wrong", 2.5, finding("P7", "next to nothing")),
    Clue("pairs_wrong", -2, when(
        lambda p: p.learned,
        lambda p: f"it has learned something (r {p.r_best:.2f}, gap {p.gap:.2f})",
    )),
    Clue("labels_wrong", 1.8, when(
        lambda p: never(p) and moves(p),
        lambda p: f"{never_said(p)}, although {moves_said(p)}",
    )),
    Clue("labels_wrong", 3, finding("P1")),
    Clue("labels_wrong", 2.5, finding("P2")),
    Clue("ignore_learned", 3, finding("P2", "ignore", "unlabelled")),
    Clue("ignore_learned", 3, finding("P1", "ignore", "unlabelled")),
    Clue("leak", 4, finding("P7", "in the training part", "duplicate", "near", "both sides")),
    # learning rate
    Clue("rate_too_high", 1.5, far_above_constant),
    Clue("rate_too_high", -2, finding("P3")),
    Clue("rate_too_high", 2.2, sign("R9", "update_too_large")),
    Clue("rate_too_high", 1.2, when(
        lambda p: p.first_update > 0.1,
        lambda p: f"the first steps changed the weights by {p.first_update:.0%} of their size",
    )),
    Clue("rate_too_high", 2, when(
        lambda p: p.r_most > 1.6,
        lambda p: f"the training loss was far above a constant's (r {p.r_most:.1f})",
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
    Clue("rate_too_low", 0.7, climbing),
    Clue("rate_too_low", -2.5, when(lambda p: p.update > 2e-3, moves_said)),
    Clue("rate_too_low", -3, when(
        lambda p: p.largest_gradient < NO_GRADIENT,
        lambda p: "no gradient arrives at any weight: no rate makes anything of that",
    )),
    Clue("rate_too_low", -3, when(
        lambda p: (found := p.sign("R10", "clipped")) is not None and found.numbers.get("excess", 1) > 20,
        lambda p: "it is the clipping that makes the steps small",
    )),
    Clue("schedule_exhausted", 3, sign("R10", "rate_at_minimum")),
    Clue("schedule_exhausted", 1.5, sign("R4", "plateau", "rate_exhausted")),
    Clue("clip_too_tight", 4, when(
        lambda p: (found := p.sign("R10", "clipped")) is not None and found.numbers.get("excess", 1) > 20,
        lambda p: sign("R10", "clipped")(p) or "",
    )),
    Clue("clip_too_tight", 0.5, sign("R10", "clipped")),
    Clue("weight_shock", 2.5, sign("R2", "spike")),
    Clue("weight_shock", 4, jumped),
    Clue("overfitting", -3, jumped),
    Clue("weight_shock", 1, when(
        lambda p: any(one.kind == "weight_noise" for one in p.memory.events),
        lambda p: "noise was put on the weights",
    )),
    Clue("gradients_accumulate", 5, accumulates),
    # layers
    Clue("frozen_layers", 2, sign("R9", "frozen")),
    Clue("frozen_layers", 2.5, when(
        lambda p: (found := p.sign("R9", "frozen")) is not None and found.numbers["share"] > 0.7,
        lambda p: "that is most of the network",
    )),
    Clue("frozen_layers", 1.5, sign("R9", "no_gradient")),
    Clue("frozen_layers", -4, when(lambda p: p.rate_is_nothing, lambda p: "the learning rate is all but nothing")),
    Clue("dead_channels", 3.2, sign("R9", "dead")),
    Clue("dead_channels", -3, sees_nothing),
    # objective
    Clue("detached_term", 3.2, detached),
    Clue("unreachable_term", 2.5, sign("R4", "plateau", "term_floor")),
    Clue("unreachable_term", 1.5, finding("P5")),
    Clue("unreachable_term", 2, finding("P5", "optimum is not the truth")),
    Clue("unreachable_term", 3, unreachable),
    Clue("worse_than_constant", 5.5, worse_than_constant),
    Clue("dominating_term", 2, sign("R8", "domination")),
    Clue("conflicting_terms", 2, sacrificed),
    Clue("conflicting_terms", 2, when(serves_others, lambda p: worse_term(p) or "")),
    Clue("dominating_term", 2, drowned),
    Clue("conflicting_terms", 2.2, sign("R8", "conflict")),
    Clue("class_bias", 1.6, sign("R7", "too_much_surface")),
    Clue("class_bias", 1.2, sign("R7", "too_little_surface")),
    Clue("class_bias", 2.5, finding("P3")),
    Clue("class_bias", -1.5, when(never, never_said)),
    Clue("inverted_objective", 3.4, when(lambda p: not serves_others(p), lambda p: rewarded_error(p) or "")),
    Clue("conflicting_terms", 3.4, when(serves_others, lambda p: rewarded_error(p) or "")),
    Clue("inverted_objective", 2.5, when(
        lambda p: p.r > 1.1 and p.r > p.r_best + 0.1,
        lambda p: f"the loss rises above the constant's (r {p.r:.2f}) while the weights follow its gradient",
    )),
    Clue("inverted_objective", 1.5, when(
        lambda p: p.gap < -0.1,
        lambda p: f"probabilities are lower on surface than beside it (by {-p.gap:.2f})",
    )),
    Clue("constant_predictor", 1, when(never, never_said)),
    Clue("constant_predictor", 0.8, sign("R6", "uniform")),
    # data
    Clue("overfitting", 2.5, sign("R5", "overfitting", "falling")),
    Clue("overfitting", 2, sign("R5", "overfitting", "gap")),
    # protocol
    Clue("wrong_metric", 2.5, sign("R12", "disagreement")),
    Clue("wrong_metric", -2, when(
        lambda p: p.r > 0.95 and contradicted_metric(p) is None,
        lambda p: f"the training loss is no better (r {p.r:.2f})",
    )),
    Clue("wrong_metric", 2, when(
        lambda p: p.r_held_out < 0.6 and p.metric < 0.1,
        lambda p: f"the loss on held-out volumes is good (r {p.r_held_out:.2f}) and the metric is {p.metric:.3f}",
    )),
    Clue("threshold_in_noise", 2.2, criterion),
    Clue("threshold_in_noise", 3, stopped_by_chance),
    Clue("wrong_metric", 3.5, contradicted_metric),
    Clue("threshold_in_noise", 3.2, below_noise),
    Clue("objectives_mixed", 3.5, objectives_compared),
    Clue("rate_too_high", 3.4, raised_rate),
    Clue("threshold_in_noise", 1, finding("P9")),
    Clue("objectives_mixed", 1, sign("R12", "objectives_differ")),
    Clue("dead_setting", 2.5, finding("P6")),
    Clue("starved_loader", 2, sign("R14", "starved")),
    Clue("normalisation_wrong", 3.6, odd_scale),
    Clue("normalisation_wrong", 2, finding("P7", "normalis", "grey", "scale")),
)  # fmt: skip
"""Every clue; a new one is added here."""

SYMPTOMS: tuple[Says, ...] = (
    far_above_constant,
    rewarded_error,
    sees_nothing,
    all_one_label, worse_term, drowned, no_better_than_surface, contradicted_metric, stopped_by_chance, starves, jumped,
)  # fmt: skip
"""Clues that are symptoms by themselves."""
