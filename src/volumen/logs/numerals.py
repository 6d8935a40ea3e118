"""Numbers as programs and people write them: percentages, units, NaN, decimal commas."""

import math
import re
from collections.abc import Sequence

SECONDS = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "secs": 1.0, "seconds": 1.0, "min": 60.0, "minutes": 60.0, "h": 3600.0}
_FIGURE = r"(?:\d{1,40}(?:[POINT]\d{0,60})?|[POINT]\d{1,60})(?:[eE][-+]?\d{1,4})?"
_UNIT = r"(?P<unit>\s?%|\s?[x×](?![A-Za-z])|\s?(?:ms|seconds|secs|sec|s|minutes|min|h)(?![\w/]))?"
_NUMBER = rf"(?<![\w.])(?P<number>[-+]?(?:{_FIGURE}|(?i:nan|inf|infinity)(?!\w))){_UNIT}(?![\w])(?![-–]\d)"
NUMBER = re.compile(_NUMBER.replace("[POINT]", r"\."))
"""A number in a text, with its unit."""
NUMBER_WITH_COMMA = re.compile(_NUMBER.replace("[POINT]", r"[.,]").replace(r"{0,60}", "{1,60}"))
_CELL = re.compile(rf"^(?P<number>[-+]?(?:{_FIGURE}|(?i:nan|inf|infinity))){_UNIT}$".replace("[POINT]", r"\."))
TIME = re.compile(
    r"\d{4}[-/.]\d\d[-/.]\d\d(?:[T ,_]{1,2}\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?"
    r"|\b\d{1,3}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?\b"
)
"""A date, a time of day or a span of time."""
_EMPTY = frozenset({"", "-", "--", "none", "null", "na", "n/a", "~"})


def value_of(number: str, unit: str | None = None) -> float:
    """The value of a matched number; a percentage is a share, a time is in seconds."""
    value = float(number.replace(",", "."))
    unit = (unit or "").strip()
    if unit == "%":
        return value / 100
    return value * SECONDS.get(unit, 1.0)


def cell_value(text: str, *, comma: bool = False) -> float | None:
    """The number in a table's cell; None where it is empty.

    Raises:
        ValueError: There is something else.
    """
    bare = text.strip().strip("*`\"' ")
    if bare.casefold() in _EMPTY:
        return None
    if comma:
        bare = bare.replace(",", ".")
    match = _CELL.match(bare) if len(bare) <= 120 else None
    if match is None:
        raise ValueError(f"no number: {bare[:60]}")
    return value_of(match["number"], match["unit"])


def prefers_comma(text: str) -> bool:
    """Whether a text writes 0,5 rather than 0.5."""
    text = TIME.sub(" ", text)
    return len(_WITH_COMMA.findall(text)) > len(_WITH_POINT.findall(text))


_WITH_COMMA = re.compile(r"(?<![\w.,])[-+]?\d+,\d+(?:[eE][-+]?\d+)?(?![\d.,]{0,20}\d)")
_WITH_POINT = re.compile(r"(?<![\w.])[-+]?\d*\.\d+(?![.\d])")


def mean_of(values: Sequence[float]) -> float:
    """The mean; NaN where one of several is not finite."""
    if len(values) == 1:
        return values[0]
    if not values or not all(math.isfinite(value) for value in values):
        return math.nan
    return (
        math.fsum(value / len(values) for value in values)
        if max(map(abs, values)) > _LARGE
        else (math.fsum(values) / len(values))
    )


_LARGE = 1e290  # beyond, a sum may overflow


def as_whole(value: float, most: int = 2**48) -> int | None:
    """A whole number of at least 0; None for another."""
    return int(value) if math.isfinite(value) and 0 <= value <= most and value == int(value) else None
