"""P6: is the objective that runs the one that is configured?"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from volumen.data.labels import IGNORE, SURFACE
from volumen.doctor.context import Context
from volumen.doctor.findings import Finding, Severity
from volumen.losses import CompositeLoss
from volumen.training.objective import weights_at

TOLERANCE = 1e-5  # relative; measured over all presets on two real data sets: at most 1e-7
UNREPORTED = "(not reported)"


class Effective(NamedTuple):
    """What an objective does with one term."""

    name: str
    configured: float
    found: float | None
    """Weighted by raw value; None where the raw value is 0 on everything that was looked at."""
    share: float
    """Of the total, the largest that was seen."""


def check_effective(context: Context) -> Iterator[Finding]:
    """The objective's total against the sum of configured weight times raw value, phase by phase."""
    for phase, epoch in context.phases:
        configured = weights_at(context.config.loss, epoch)
        terms = effective_weights(context.objectives[phase], configured, context.label_patches)
        wrong = [term for term in terms if _differs(term)]
        if not wrong:
            continue
        listed = "; ".join(f"{_number(term.found)} x {term.name} (configured {term.configured:g})" for term in terms)
        name = wrong[0].name
        yield Finding(
            code="P6",
            severity=Severity.stop,
            title=f"the objective is not the configured one: {', '.join(map(_words, wrong))}",
            evidence=f"phase {phase!r}, epoch {epoch}, on {len(context.label_patches)} label patches: {listed}",
            causes=("a weight in the code takes the place of the file's", "a term is added that no file names"),
            remedies=("build the objective from the configuration alone (training.objective.build_objective)",),
            where=context.where("loss.terms" if name == UNREPORTED else f"loss.terms.{name}.weight"),
        )


def effective_weights(
    objective: CompositeLoss, configured: dict[str, float], labels: NDArray[np.uint8]
) -> tuple[Effective, ...]:
    """The weights that an objective gives its terms, found from its values.

    Args:
        objective: As it runs.
        configured: Weight by term.
        labels: Canonical codes [N, Z, Y, X].

    Returns:
        Every term that is configured or found, in the configuration's order; at the end, where the total is more (or
        less) than the sum of what is reported, that rest as a term of its own.
    """
    found: dict[str, float | None] = {}
    shares: dict[str, float] = {}
    for board in (labels, _sheets()[None]):
        for logits in _answers(board):
            with torch.no_grad():
                breakdown = objective(logits, *_as_target(board))
            total = float(breakdown.total)
            weighted = {name: float(value) for name, value in breakdown.weighted.items()}
            rest = total - sum(weighted.values())
            for name, value in {**weighted, UNREPORTED: rest}.items():
                shares[name] = max(shares.get(name, 0.0), abs(value) / max(abs(total), 1e-12))
                raw = 1.0 if name == UNREPORTED else float(breakdown.raw[name])
                found[name] = value / raw if abs(raw) > 1e-6 else found.get(name)
    if shares[UNREPORTED] <= TOLERANCE:
        del found[UNREPORTED]
    for name, weight in configured.items():
        if weight > 0:
            found.setdefault(name, 0.0)
    names = dict.fromkeys((*configured, *found))
    return tuple(
        Effective(name, configured.get(name, 0.0), found[name], shares.get(name, 0.0))
        for name in names
        if name in found
    )


def _differs(term: Effective) -> bool:
    if term.found is None:
        return term.configured == 0.0
    return abs(term.found - term.configured) > TOLERANCE * max(abs(term.configured), abs(term.found))


def _words(term: Effective) -> str:
    if term.name == UNREPORTED:
        return f"{term.share:.1%} of its value is reported under no term"
    if term.configured == 0.0:
        return f"{term.name} runs with {_number(term.found)} and is not part of it"
    if term.found == 0.0:
        return f"{term.name} is configured with {term.configured:g} and does not run"
    return f"{term.name} runs with {_number(term.found)} in place of {term.configured:g}"


def _number(weight: float | None) -> str:
    return "some" if weight is None else f"{weight:g}"


def _as_target(labels: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
    """Target and valid voxels of canonical codes [N, Z, Y, X], as an objective takes them."""
    return torch.from_numpy((labels == SURFACE).astype(np.uint8)), torch.from_numpy(labels != IGNORE)


def _answers(labels: NDArray[np.uint8]) -> list[torch.Tensor]:
    """Logits [N, 1, Z, Y, X] of an unsure, a fair and an overly sure prediction: some terms sleep for one of them."""
    noise = np.random.default_rng(0).standard_normal(labels.shape, dtype=np.float32)
    truth = np.where(labels == SURFACE, 1.0, -1.0).astype(np.float32)
    fields = (0.5 * noise, 2.0 * truth + 2.0 * noise, 16.0 * np.sign(truth + 0.7 * noise))
    return [torch.from_numpy(np.ascontiguousarray(one))[:, None] for one in fields]


def _sheets() -> NDArray[np.uint8]:
    """Five sheets across x with gaps of 2, 4, 6 and 9 voxels, canonical codes [32, 32, 32]."""
    label = np.zeros((32, 32, 32), np.uint8)
    for start in (1, 5, 11, 19, 30):
        label[:, 2:30, start : start + 2] = SURFACE
    return label
