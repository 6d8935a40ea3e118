"""How good the probabilities were that people gave: Brier and log score over closed experiments, and reliability.

Each closed experiment with probabilities is one forecast over its outcomes and "none of them", which gets what is left
to 1. The Brier score (Brier 1950) is the sum of squared differences between forecast and what happened, 0 to 2; the log
score is -ln of the probability of what happened. Beside them stands what the base rate would have got: every outcome
that was given a probability called as likely as such outcomes came true, over the other experiments.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from volumen.ledger.entry import Entry

LEAST_PROBABILITY = 0.01
"""In the log score, which is infinite for what was called impossible and happened."""
FEW, ENOUGH_FOR_BINS = 10, 20
"""Experiments up to which a score says little; forecasts from which reliability is told."""
BINS = 5


@dataclass(frozen=True)
class Bin:
    """Forecasts of about the same probability."""

    forecasts: int
    said: float
    """Their mean."""
    came_true: float
    """Share of them."""


@dataclass(frozen=True)
class Calibration:
    """Scores over closed experiments; NaN where there is none."""

    experiments: int
    forecasts: int
    """Outcomes that were given a probability, over all experiments."""
    brier: float
    log_score: float
    base_rate: float
    """Share of those outcomes that came true."""
    base_brier: float
    """Of always saying the base rate of the other experiments."""
    base_log_score: float
    bins: tuple[Bin, ...]
    """Only where there are enough forecasts."""

    @property
    def remark(self) -> str:
        """What to think of it."""
        if self.experiments == 0:
            return "no closed experiment had probabilities"
        if self.experiments < FEW:
            return f"fewer than {FEW} experiments: these scores can be luck"
        if self.brier < self.base_brier:
            return "better than always saying the base rate"
        return "no better than always saying the base rate"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "remark": self.remark}


def calibration_of(entries: Iterable[Entry]) -> Calibration:
    """Score the probabilities of the closed experiments whose outcome is known."""
    chosen = [forecast for entry in entries if (forecast := _forecast_of(entry)) is not None]
    hits = [any(happened[:-1]) for _, happened in chosen]
    sizes = [len(said) - 1 for said, _ in chosen]
    forecasts, true = sum(sizes), sum(hits)
    own = [_scores(said, happened) for said, happened in chosen]
    base = [
        _scores(_base_forecast(forecasts - size, true - hit, size), happened)
        for (_, happened), size, hit in zip(chosen, sizes, hits, strict=True)
    ]
    pairs = [pair for said, happened in chosen for pair in zip(said[:-1], happened[:-1], strict=True)]
    return Calibration(
        len(chosen), forecasts, _mean(score[0] for score in own), _mean(score[1] for score in own),
        true / forecasts if forecasts else math.nan, _mean(score[0] for score in base),
        _mean(score[1] for score in base), _bins(pairs) if forecasts >= ENOUGH_FOR_BINS else (),
    )  # fmt: skip


def _forecast_of(entry: Entry) -> tuple[list[float], list[bool]] | None:
    """Probabilities and what happened, each ending with "none of them"; None where it is no forecast.

    An outcome without a probability belongs to what is left over.
    """
    if entry.status != "closed" or entry.came_true is None:
        return None
    given = [(place, one.probability) for place, one in enumerate(entry.outcomes, 1) if one.probability is not None]
    if not given:
        return None
    said = [probability for _, probability in given]
    happened = [place == entry.came_true for place, _ in given]
    return [*said, max(0.0, 1 - sum(said))], [*happened, not any(happened)]


def _base_forecast(forecasts: int, true: int, size: int) -> list[float]:
    """Each outcome as likely as those of the other experiments came true; (true + 1) / (forecasts + 2), Laplace's."""
    rate = min((true + 1) / (forecasts + 2), 1 / size)
    return [*[rate] * size, max(0.0, 1 - rate * size)]


def _scores(said: list[float], happened: list[bool]) -> tuple[float, float]:
    brier = sum((one - came) ** 2 for one, came in zip(said, happened, strict=True))
    likelihood = next(one for one, came in zip(said, happened, strict=True) if came)
    return brier, -math.log(max(likelihood, LEAST_PROBABILITY))


def _bins(pairs: list[tuple[float, bool]]) -> tuple[Bin, ...]:
    parts: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for said, came in pairs:
        parts[min(int(said * BINS), BINS - 1)].append((said, came))
    return tuple(
        Bin(len(part), _mean(said for said, _ in part), _mean(float(came) for _, came in part))
        for part in parts
        if part
    )


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return math.fsum(known) / len(known) if known else math.nan
