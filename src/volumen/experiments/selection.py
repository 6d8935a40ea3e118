"""Choose among checkpoints by what they do on fixed held-out volumes: distribution first, then the leaderboard score.

Never by a loss: it depends on the weights of its terms, and its best value need not be the best mask. Beside every
difference from the chosen one stands its noise over the volumes, paired, since all candidates saw the same ones; and
what would be taken anyhow is left for another one only where that beats it by more than noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from volumen.errors import UserError
from volumen.experiments.distribution import Verdict, judge_share
from volumen.experiments.scoring import Evaluation
from volumen.metrics import beats_noise, mean_and_noise
from volumen.system.output import counted

SCORE = "leaderboard"


@dataclass(frozen=True)
class Candidate:
    """One checkpoint on the held-out volumes."""

    name: str
    score: float
    """Mean leaderboard score."""
    dice: float
    predicted_share: float
    sound: bool
    """Its surface share lies within the labels' own range, and no prediction says nothing."""
    reasons: tuple[str, ...]
    """Why it is not sound."""
    difference: float
    """Score less that of the chosen one."""
    noise: float
    """Standard error of the difference over the volumes; NaN with one volume."""

    volumes: int
    """How many."""

    @property
    def within_noise(self) -> bool:
        """Whether the difference from the chosen one is no more than noise, or cannot be told."""
        return not beats_noise(abs(self.difference), self.noise, self.volumes)


@dataclass(frozen=True)
class Selection:
    """The ranking, the chosen one first."""

    candidates: tuple[Candidate, ...]
    note: str

    @property
    def chosen(self) -> Candidate:
        """The one to go on with."""
        return self.candidates[0]


def select(evaluations: Mapping[str, Evaluation], label_shares: Sequence[float]) -> Selection:
    """Choose among checkpoints: the first sound one, unless another sound one beats it by more than noise.

    Args:
        evaluations: By name of the checkpoint, all on the same cases; what would be taken anyhow stands first.
        label_shares: True surface share of every labelled volume of the data set.

    Raises:
        UserError: No evaluation, or evaluations of different cases.
    """
    if not evaluations:
        raise UserError("there is no checkpoint to choose from")
    cases = {name: tuple(case.id for case in one.cases) for name, one in evaluations.items()}
    first = next(iter(cases.values()))
    if any(ids != first for ids in cases.values()):
        raise UserError(f"the checkpoints were evaluated on different volumes ({cases}): they cannot be compared")
    reasons = {name: _unsound(one, label_shares) for name, one in evaluations.items()}
    order = sorted(evaluations, key=lambda name: (bool(reasons[name]), -evaluations[name].mean[SCORE]))
    sound = [name for name in evaluations if not reasons[name]] or list(evaluations)
    better = [name for name in order if name in sound and _beats(evaluations[name], evaluations[sound[0]])]
    order.sort(key=lambda name: name != (better or sound)[0])
    ranked = tuple(_candidate(name, evaluations[name], evaluations[order[0]], reasons[name]) for name in order)
    alike = [one.name for one in ranked[1:] if one.within_noise and one.sound == ranked[0].sound]
    note = f"not told apart from it on {counted(len(first), 'volume')}: {', '.join(alike)}" if alike else ""
    if reasons[order[0]]:
        note = "none of them is sound; " + (note or "what would be taken anyhow stands first")
    return Selection(ranked, note)


def _unsound(evaluation: Evaluation, label_shares: Sequence[float]) -> tuple[str, ...]:
    shares = {case.id: case.values["predicted_share"] for case in evaluation.cases}
    mean: Verdict = judge_share(shares, label_shares)[0]
    return (*evaluation.degenerate, *(() if mean.reached else (mean.sentence,)))


def _candidate(name: str, evaluation: Evaluation, chosen: Evaluation, reasons: tuple[str, ...]) -> Candidate:
    mean = evaluation.mean
    return Candidate(
        name,
        mean[SCORE],
        mean["dice"],
        mean["predicted_share"],
        not reasons,
        reasons,
        *mean_and_noise(_differences(evaluation, chosen)),
        len(evaluation.cases),
    )


def _differences(one: Evaluation, other: Evaluation) -> list[float]:
    return [a.values[SCORE] - b.values[SCORE] for a, b in zip(one.cases, other.cases, strict=True)]


def _beats(one: Evaluation, other: Evaluation) -> bool:
    return beats_noise(*mean_and_noise(_differences(one, other)), len(one.cases))
