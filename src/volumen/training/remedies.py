"""What may help against what: a table from signs and causes to interventions, and the faults that none helps against.

Names are those of signs (`monitors.sign`) and of causes (`monitors.causes`). A fault of data, labels or configuration
is never answered with a learning rate: it ends the run, unless it is to keep going.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from volumen.config.intervention import (
    ClipGradient,
    DropTerm,
    RateScale,
    ReloadBest,
    SwitchSchedule,
    Unfreeze,
    WeightTerm,
)
from volumen.config.optimisation import Constant
from volumen.monitors.causes import CAUSES
from volumen.monitors.sign import Sign
from volumen.training.repairs import Interventions

FAULTS = frozenset({"half_range", "identical_cases", "input_ignored", "objectives_differ"}) | frozenset(
    name for name, text in CAUSES.items() if text.data_fault and name != "unreachable_term"
)
"""Of data, labels, objective or code. A term that cannot come down is one that can be dropped."""
BIASED = frozenset({"too_much_surface", "too_little_surface"})
"""A fault where the monitor says `stop`: labels that say so or an objective that asks for it."""
UNMOVED = frozenset({"update_too_small", "frozen", "no_gradient", "rate_at_minimum"})
CAUSE = "cause"
"""Code of a sign that is the diagnosis's likeliest cause."""
SHRINK = 0.1
"""Factor on the weight of a term that drowns the others."""
GRAVEST = ("stop", "warn", "note")


@dataclass(frozen=True)
class Situation:
    """What a remedy may depend on beside its sign."""

    gradient_clip: float | None
    weights: dict[str, float]
    """Of the objective's terms, now."""


Remedies = Callable[[Sign, Situation], Iterator[Interventions]]


def _rates(*factors: float, reload: bool = False) -> Remedies:
    def offer(sign: Sign, now: Situation) -> Iterator[Interventions]:
        for factor in factors:
            yield (*((ReloadBest(),) if reload else ()), RateScale(factor=factor))

    return offer


def _back(sign: Sign, now: Situation) -> Iterator[Interventions]:
    yield (ReloadBest(),)
    yield (ReloadBest(), RateScale(factor=0.3))


def _revive(sign: Sign, now: Situation) -> Iterator[Interventions]:
    """A schedule at its end may have come to 0, which no factor changes."""
    yield (SwitchSchedule(to=Constant()),)
    yield from _rates(10.0, 3.0)(sign, now)


def _loosen_clip(sign: Sign, now: Situation) -> Iterator[Interventions]:
    if now.gradient_clip is not None:
        yield (ClipGradient(value=min(10.0 * now.gradient_clip, 1e12)),)


def _unfreeze(sign: Sign, now: Situation) -> Iterator[Interventions]:
    yield (Unfreeze(),)


def _lighten(sign: Sign, now: Situation) -> Iterator[Interventions]:
    for name in _terms(sign, now):
        yield (WeightTerm(name=name, weight=SHRINK * now.weights[name]),)


def _drop(sign: Sign, now: Situation) -> Iterator[Interventions]:
    for name in _terms(sign, now):
        yield (DropTerm(name=name),)


def _lighten_or_drop(sign: Sign, now: Situation) -> Iterator[Interventions]:
    yield from _lighten(sign, now)
    yield from _drop(sign, now)


def _plateau(sign: Sign, now: Situation) -> Iterator[Interventions]:
    """By its kind, which is where it is."""
    if sign.where == "term_floor":
        yield from _drop(sign, now)
    elif sign.where == "rate_exhausted":
        yield from _revive(sign, now)
    elif sign.where == "constant":
        yield from _rates(10.0, 3.0)(sign, now)
    elif sign.where != "converged":
        yield from _rates(0.3, 3.0)(sign, now)


REMEDIES: dict[str, Remedies] = {
    "spike": _back,
    "degraded": _back,
    "catastrophic": _back,
    "weight_shock": _back,
    "worse_than_constant": _back,
    "plateau": _plateau,
    "update_too_large": _rates(0.1, 0.3, reload=True),
    "rate_too_high": _rates(0.1, 0.3, reload=True),
    "update_too_small": _rates(10.0, 30.0),
    "rate_too_low": _rates(10.0, 30.0),
    "schedule_exhausted": _revive,
    "rate_at_minimum": _revive,
    "clipped": _loosen_clip,
    "clip_too_tight": _loosen_clip,
    "frozen": _unfreeze,
    "no_gradient": _unfreeze,
    "frozen_layers": _unfreeze,
    "domination": _lighten,
    "dominating_term": _lighten,
    "conflict": _lighten_or_drop,
    "conflicting_terms": _lighten_or_drop,
    "unreachable_term": _drop,
    "term_floor": _drop,
}


def _terms(sign: Sign, now: Situation) -> list[str]:
    """The objective's terms that a sign names, as `term` or `one|other` or in its sentence, the heaviest first."""
    named = {*sign.where.split("|"), *re.findall(r"\bterm (\w+)", sign.evidence)}
    return sorted((name for name in named if now.weights.get(name, 0.0) > 0.0), key=lambda name: -now.weights[name])


def remedies_for(
    signs: Sequence[Sign], now: Situation, tried: Sequence[Interventions] = ()
) -> tuple[Sign, tuple[Interventions, ...]] | None:
    """The gravest sign that something untried may help against, and all of that, the likeliest first."""
    for sign in sorted(signs, key=lambda one: GRAVEST.index(one.severity) if one.severity in GRAVEST else 3):
        if sign.name in FAULTS or sign.name not in REMEDIES:
            continue
        offered = dict.fromkeys(REMEDIES[sign.name](sign, now))
        left = tuple(one for one in offered if one not in tried)
        if left:
            return sign, left
    return None


def fault_of(signs: Sequence[Sign]) -> Sign | None:
    """The first sign that tells of a fault of data, labels or configuration, where it is sure.

    A sign of `stop` is. A warning is unless something else explains it: weights that hardly move, so that the network
    ignores its image without any fault, or the likeliest cause of the diagnosis. A note never is.
    """
    explained = any(one.name in UNMOVED or (one.code == CAUSE and one.severity == "stop") for one in signs)

    def tells(one: Sign) -> bool:
        return one.name in FAULTS | BIASED and (
            one.severity == "stop" or (one.severity == "warn" and one.name in FAULTS and not explained)
        )

    return next(filter(tells, signs), None)
