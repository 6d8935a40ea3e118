"""What a criterion can speak of: quantities of a run's records, their kinds and the units of each kind.

The rooms that know metrics and loss terms stand below this one; a test holds the names here to theirs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Literal


class Dimension(StrEnum):
    """What a quantity is, which decides the units of its numbers."""

    number = "a plain number"
    share = "a share"
    time = "a time"
    memory = "an amount of memory"


UNITS: Mapping[Dimension, Mapping[str, float]] = {
    Dimension.number: {"": 1.0},
    Dimension.share: {"": 1.0, "%": 0.01},
    Dimension.time: {"s": 1.0, "min": 60.0, "h": 3600.0},
    Dimension.memory: {"GB": 1.0, "MB": 1 / 1024},
}
"""Units by dimension, each with its worth in the records' own: shares, seconds, GB of 2^30 bytes."""

Usual = Literal["best", "end", "median", "every", "whole"]
"""Where a quantity is looked at when a criterion names no time: `best` is the epoch whose state is kept, `whole` the
evaluation of whole volumes."""


@dataclass(frozen=True)
class Quantity:
    """Something that the records of a run say, by epoch or once."""

    name: str
    """As series of `Records` are called."""
    dimension: Dimension
    better: Literal["higher", "lower"] | None
    usual: Usual
    noisy: bool = True
    """Whether two values of an unchanged run differ."""
    span: tuple[float, float] | None = None
    """Least and most that it can be, whatever is trained."""


_SHARE, _ANY = (0.0, 1.0), None
_HIGHER = ("leaderboard", "leaderboard_quick", "topo", "surface_dice", "voi", "accuracy", "precision", "recall", "dice",
           "iou")  # fmt: skip
_SHARES = ("predicted_share", "true_share")
METRICS = (*_HIGHER, *_SHARES)
"""Of a validation: `val.NAME`."""
SCORES = (*(name for name in METRICS if name != "leaderboard_quick"), "voi_split", "voi_merge",
          "overestimation_points", "all_surface_dice")  # fmt: skip
"""Of an evaluation of whole volumes: `score.NAME`."""
TERMS = (
    "soft_dice", "focal", "cross_entropy", "variance", "entropy", "boundary", "cldice", "connectivity", "medial_recall",
    "signed_distance", "merge_penalty",
)  # fmt: skip
"""Of the objective: `val.term.NAME` and `train.term.NAME`, raw values without their weights."""


def _metric(name: str, prefix: str, usual: Usual) -> Quantity:
    plain = name in ("voi_split", "voi_merge", "overestimation_points")
    better: Literal["higher", "lower"] | None = "higher" if name in _HIGHER else None
    return Quantity(
        f"{prefix}.{name}",
        Dimension.number if plain else Dimension.share,
        "lower" if name in ("voi_split", "voi_merge") else better,
        usual,
        noisy=prefix == "val" and name != "true_share",
        span=_ANY if plain else _SHARE,
    )


def _loss(name: str, usual: Usual) -> Quantity:
    return Quantity(name, Dimension.number, "lower", usual)


QUANTITIES: Mapping[str, Quantity] = {
    one.name: one
    for one in (
        _loss("val.loss", "best"),
        *(_metric(name, "val", "best") for name in METRICS),
        *(_loss(f"val.term.{name}", "best") for name in TERMS),
        _loss("train.loss", "end"),
        *(_loss(f"train.term.{name}", "end") for name in TERMS),
        _loss("val.r", "best"),
        _loss("train.r", "end"),
        _loss("gap", "best"),
        Quantity("epoch_time", Dimension.time, "lower", "median"),
        Quantity("memory", Dimension.memory, "lower", "every", noisy=False),
        Quantity("learning_rate", Dimension.number, None, "end", noisy=False),
        Quantity("score", Dimension.share, "higher", "whole", noisy=False, span=_SHARE),
        *(_metric(name, "score", "whole") for name in SCORES),
    )
}
"""By name."""

SYNONYMS: Mapping[str, str] = {
    "surface_share": "val.predicted_share",
    "validation_loss": "val.loss",
    "r": "val.r",
    "score.leaderboard": "score",
    **{name: f"val.{name}" for name in METRICS},
    **{f"term.{name}": f"val.term.{name}" for name in TERMS},
    **{f"loss.{name}": f"val.term.{name}" for name in TERMS},
}
"""Other names of the same, which stay as they were written."""

_SUGGESTED = (*(name for name in QUANTITIES if name != "val.predicted_share"), "surface_share", "true_share",
              *(f"term.{name}" for name in TERMS))  # fmt: skip


def quantity_of(name: str) -> Quantity | None:
    """The quantity of a name; None where nobody knows it."""
    return QUANTITIES.get(SYNONYMS.get(name, name))


def near(word: str, known: tuple[str, ...], most: int = 1) -> list[str]:
    """The known words that a misspelt one may have meant, the nearest first."""
    return get_close_matches(word.lower(), known, most, 0.6)


def suggestion(name: str) -> str:
    """What is right in place of an unknown quantity, in words."""
    last = name.rpartition(".")[2].lower()
    same = [each for each in _SUGGESTED if each.rpartition(".")[2] == last]
    found = (same or near(name, _SUGGESTED, 2) or near(last, METRICS, 2))[:2]
    if found:
        return f"did you mean {' or '.join(found)}?"
    return "known are val.loss, val.METRIC, term.NAME, train.loss, surface_share, epoch_time, score and others"
