"""From signs to a diagnosis: is the run ill, of what, how sure is that, what speaks against it, and what is it not.

A run is ill where there is a symptom (it learns nothing, gets worse, says one thing everywhere, ...). Causes are ranked
by their clues. What a monitor finds odd without a symptom is told, and is no illness: a frozen encoder that scores as
well as a trained one needs no doctor.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from volumen.monitors.causes import CAUSES
from volumen.monitors.clues import CLUES, SYMPTOMS
from volumen.monitors.loss_clues import loss_symptoms
from volumen.monitors.memory import Memory
from volumen.monitors.picture import LATE, LEAST_EPOCHS, Audit, Picture
from volumen.monitors.reasons import FAR_IN
from volumen.monitors.seen import History
from volumen.monitors.watching import replayed

ENOUGH = 1.5
"""Points from which on a cause is named."""
WORSE = 1.03
UNMISTAKABLE, CERTAIN, EARLIEST_PROBES = 3.0, 5.0, 2
"""Points of a cause with which a beginning is called ill, and with which any run is."""
HEALTHY, SICK, UNCLEAR = "healthy", "sick", "unclear"


@dataclass(frozen=True)
class Cause:
    """A cause with what speaks for and against it."""

    name: str
    points: float
    confidence: float
    """Between 0 and 1: its share of what speaks for any cause, held down where little speaks at all."""
    speaks_for: tuple[str, ...]
    speaks_against: tuple[str, ...]


@dataclass(frozen=True)
class Diagnosis:
    """What is to be said of a run."""

    state: str
    """`healthy`, `sick`, or `unclear` where the records cannot tell."""
    symptoms: tuple[str, ...]
    causes: tuple[Cause, ...]
    """The likeliest first; those with enough points."""
    unlikely: tuple[Cause, ...]
    """Causes that were thought of, and against which more speaks than for them."""
    remarks: tuple[str, ...]
    """Odd, and no illness."""
    missing: tuple[str, ...]
    """What would decide it, where it cannot be told."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values under the names of the fields: the stable form of `volumen diagnose --json`."""
        return asdict(self)


def diagnose(picture: Picture) -> Diagnosis:
    """The diagnosis of a training as far as it was seen."""
    ranked, unlikely = _causes(picture)
    symptoms = (*_symptoms(picture), *_early(picture, ranked))
    missing = tuple(_missing(picture, bool(symptoms), bool(ranked)))
    early = not picture.memory.epochs and not picture.memory.validations
    state = SICK if symptoms else UNCLEAR if early else HEALTHY
    if state == HEALTHY and not picture.late:
        state = UNCLEAR
    remarks = () if symptoms else tuple(text for cause in ranked for text in cause.speaks_for)
    return Diagnosis(state, symptoms, ranked if symptoms else (), unlikely if symptoms else (), remarks, missing)


def diagnoses(history: History, audit: Audit = ()) -> Iterator[tuple[Memory, Diagnosis]]:
    """The diagnosis after each validation, probe and early stop, and after a number that is none, as a run has it."""
    for memory, new in replayed(history):
        if memory.is_telling or any(sign.code == "R1" for sign in new):
            yield memory, diagnose(Picture(memory, audit))


def _symptoms(picture: Picture) -> Iterator[str]:
    """What a person would call ill."""
    for code, name in (
        ("R1", "non_finite"), ("R3", "catastrophic"), ("R3", "degraded"), ("R6", "half_range"),
        ("R6", "identical_cases"), ("R6", "one_class"), ("R5", "overfitting"), ("R12", "disagreement"),
    ):  # fmt: skip
        found = picture.sign(code, name)
        if found is not None:
            yield found.evidence
    if picture.hopeless and picture.memory.epochs and not picture.learned:
        r = "" if math.isnan(picture.r_best) else f": training r is {picture.r_best:.2f} at best, a constant has 1"
        length = (
            f"{len(picture.memory.epochs)} epochs" if math.isnan(picture.done) else f"{picture.done:.0%} of the run"
        )
        yield f"nothing has been learned after {length}{r}"
    bias = picture.sign("R7", "too_much_surface") or picture.sign("R7", "too_little_surface")
    if bias is not None and picture.done >= FAR_IN:
        yield bias.evidence
    for says in SYMPTOMS:
        odd = says(picture)
        if odd is not None:
            yield odd
    if picture.r > WORSE and picture.late and picture.learned:
        yield f"the training loss is worse than a constant's (r {picture.r:.2f}), and was {picture.r_best:.2f}"
    if picture.facts or not picture.memory.metrics:
        yield from loss_symptoms(picture)
    for one in picture.audit:
        if one.get("severity") == "stop" or "optimum is not the truth" in one.get("title", ""):
            yield f"the audit said {one.get('code')}: {one.get('title')}"


def _early(picture: Picture, ranked: tuple[Cause, ...]) -> Iterator[str]:
    """Nothing learned yet, at a time when many have not, but with a reason that is not one of time."""
    if not ranked or len(picture.memory.probes) < EARLIEST_PROBES:
        return
    if ranked[0].points >= CERTAIN:
        yield f"{CAUSES[ranked[0].name].title}: {ranked[0].speaks_for[0]}"
    elif not (picture.late or picture.learned) and ranked[0].points >= UNMISTAKABLE:
        yield f"nothing has been learned in {picture.memory.step} steps, for a reason that time does not mend"


def _causes(picture: Picture) -> tuple[tuple[Cause, ...], tuple[Cause, ...]]:
    """Causes with enough points, the likeliest first, and those that were ruled out."""
    points, texts, against = dict[str, float](), dict[str, list[str]](), dict[str, list[str]]()
    for clue in CLUES:
        text = clue.says(picture)
        if text is None:
            continue
        points[clue.cause] = points.get(clue.cause, 0.0) + clue.points
        (texts if clue.points > 0 else against).setdefault(clue.cause, []).append(text)
    whole = sum(value for value in points.values() if value > 0)

    def cause(name: str) -> Cause:
        confidence = max(points[name], 0.0) / max(whole, 3.0)
        return Cause(name, points[name], confidence, tuple(texts.get(name, ())), tuple(against.get(name, ())))

    order = sorted(points, key=lambda name: -points[name])
    named = tuple(cause(name) for name in order if points[name] >= ENOUGH)
    return named, tuple(cause(name) for name in order if points[name] <= 0 and name in texts)


def _missing(picture: Picture, ill: bool, named: bool) -> Iterator[str]:
    """What would help to tell, where it cannot be told."""
    if not picture.memory.validations:
        yield "no validation is recorded: a fixed metric on held-out volumes"
    if not picture.late:
        yield f"more of the run: from {LATE:.0%} and {LEAST_EPOCHS} epochs on one that learns nothing is told"
    if ill and not named:
        if math.isnan(picture.r):
            yield "the scale of the loss, what a constant and a perfect prediction get: name objective and data"
        if not picture.memory.probes:
            yield "gradients and updates by layer: a run of volumen with training.monitoring"
        if not picture.audit:
            yield "an audit of labels, objective and data: volumen audit CONFIG"
