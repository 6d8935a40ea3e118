"""What a line of a text tells of having happened to the training, beside its numbers."""

import re
from collections.abc import Callable

from volumen.logs.rows import Told
from volumen.system.names import one_line

_NUMBER = r"([-+]?\d{1,20}(?:\.\d{0,20})?(?:[eE][-+]?\d{1,3})?)"
_SCALED = re.compile(rf"{_NUMBER}\s?[x×](?![A-Za-z])(?:\s{{0,3}}\w{{0,20}})?", re.I)
_RATE = re.compile(r"\b(?:lr|learning[ _-]?rate)\b", re.I)
_SCALES = re.compile(r"\b(?:scal(?:ed|ing|e)|boost(?:ed)?|multipl\w{1,6}|intervention)\b", re.I)
_TO = re.compile(
    rf"\b(?:reduc\w{{1,4}}|lower\w{{0,3}}|decay\w{{0,3}}|dropp\w{{1,3}})\b.{{0,60}}?\bto\s{{1,3}}{_NUMBER}", re.I
)
_BEST = re.compile(r"\bnew best\b|\bbest (?:so far|model|val|validation|score|checkpoint)\b|\bimproved\b", re.I)
_STOPPED = re.compile(r"\bearly[ -_]?stopp(?:ing|ed)\b(?! (?:counter|patience))", re.I)
_COUNTER = re.compile(r"\b(?:counter|patience|out of)\b", re.I)
_BACK = re.compile(r"\broll(?:ed|ing)?[ -]?back\b|\b(?:restor|revert|reload)\w{1,3}\b.{0,40}\bbest\b", re.I)
_RESUMED = re.compile(r"\bresum(?:ed|ing)\b.{0,60}\b(?:from|train|epoch|checkpoint)", re.I)
_FINITE = re.compile(
    r"\b(?:nan|inf(?:inite)?|non[- ]?finite)\b.{0,40}\b(?:loss|grad\w{0,6}|detected|skipp\w{1,3})\b", re.I
)
_OVERFLOW = re.compile(r"\b(?:gradient overflow|skipping step)\b", re.I)
_AVERAGED = re.compile(r"\bswa\b.{0,40}\b(?:start\w{0,3}|updat\w{1,3}|activ\w{1,5})\b", re.I)
_NOISE = re.compile(r"\bweight (?:noise|perturbation)\b.{0,40}\b(?:inject\w{0,3}|appl\w{1,4}|add\w{0,2})\b", re.I)
_EPOCH = re.compile(r"\bepoch\s{0,3}[:=#]?\s{0,3}(\d{1,9})\b(?!\s?[-–]\s?\d)", re.I)
_VALUE = re.compile(r"(?<![\w.])[-+]?\d{1,9}\.\d{1,20}(?![\w.%])(?!\s?[x×])")
LONGEST = 500
"""Characters of a line that are looked at."""


def _kind_of(line: str) -> tuple[str, dict[str, float]] | None:
    factor = _SCALED.search(line)
    if factor and (_RATE.search(line) or "intervention" in line.lower()) and _SCALES.search(line):
        return "rate_scaled", {"factor": float(factor[1])}
    if _RATE.search(line):
        lowered = _TO.search(line)
        if lowered:
            return "rate_reduced", {"rate": float(lowered[1])}
    for kind, matches in _PLAIN:
        if matches(line):
            return kind, {}
    if _BEST.search(line) and not _NOT_BEST.search(line):
        value = _VALUE.search(line, _BEST.search(line).end())  # type: ignore[union-attr]
        return "best", {"value": float(value[0])} if value else {}
    return None


_NOT_BEST = re.compile(r"\b(?:not|no|did not|didn't|worse|below|above|since|vs|than)\b", re.I)
_PLAIN: tuple[tuple[str, Callable[[str], object]], ...] = (
    ("rollback", _BACK.search),
    ("early_stopping", lambda line: _STOPPED.search(line) and not _COUNTER.search(line)),
    ("resumed", _RESUMED.search),
    ("non_finite", _FINITE.search),
    ("overflow", _OVERFLOW.search),
    ("swa_update", _AVERAGED.search),
    ("weight_noise", _NOISE.search),
)
_LIKELY = (
    "best", "improved", "roll", "restor", "revert", "reload", "stopp", "resum", "nan", "infin", "inf ", "finite",
    "overflow", "skipping", "swa", "noise", "perturb", "scal", "boost", "intervention", "multipl", "reduc", "lower",
    "decay", "dropp",
)  # fmt: skip
"""One of them stands in every line that tells of anything."""


def told_by(line: str) -> Told | None:
    """What a line tells of having happened; None where it is nothing that is known."""
    line = line[:LONGEST]
    lowered = line.lower()
    if not any(word in lowered for word in _LIKELY) or line.lstrip().startswith(("|", "#")):
        return None
    found = _kind_of(line)
    if found is None:
        return None
    kind, numbers = found
    epoch = _EPOCH.search(line)
    return Told(kind, numbers, one_line(line.strip()), float(epoch[1]) if epoch else None)
