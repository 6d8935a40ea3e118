"""Options that are more than a word or a number."""

import json
import re
from collections.abc import Sequence

from volumen.errors import UserError

LARGEST = 1e9
"""Of any number that is an option's part."""
_DIGITS = 10


def three_numbers(text: str, option: str) -> tuple[float, float, float]:
    """Three positive numbers z,y,x separated by commas or x, or one for all.

    Raises:
        UserError: anything else.
    """
    parts = [part.strip() for part in text.replace("x", ",").split(",")]
    if len(parts) not in (1, 3) or not all(re.fullmatch(r"\d+(\.\d*)?|\.\d+", part) for part in parts):
        raise UserError(f"{option} must be three numbers z,y,x or one for all, got {text!r:.80}")
    z, y, x = (float(part) for part in parts * (3 // len(parts)))
    if max(z, y, x) > LARGEST:
        raise UserError(f"{option} must be numbers up to {LARGEST:g}, got {text:.80}")
    return z, y, x


def three_whole_numbers(text: str, option: str) -> tuple[int, int, int]:
    """Three whole numbers z,y,x separated by commas or x, or one for all.

    Raises:
        UserError: anything else.
    """
    if "." in text:
        raise UserError(
            f"{option} must be three whole numbers z,y,x or one for all, such as 64,128,128, got {text!r:.80}"
        )
    z, y, x = three_numbers(text, option)
    return int(z), int(y), int(x)


def numbers(text: str, option: str) -> list[float]:
    """Numbers separated by commas.

    Raises:
        UserError: anything else.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"{option} must be numbers separated by commas, such as 0.5,0.5, got {text!r:.80}") from error
    if not all(abs(number) <= LARGEST for number in found):  # nan is none of them
        raise UserError(f"{option} must be numbers up to {LARGEST:g}, got {text!r:.80}")
    return found


def box(text: str, option: str) -> tuple[slice, slice, slice]:
    """A box such as `0:64,10:90,:`, z y x; an end that is left out is the volume's.

    Raises:
        UserError: It is something else.
    """
    parts = [part.split(":") for part in text.split(",")]
    try:
        if not all(len(part) == 2 and max(map(len, part)) <= _DIGITS for part in parts):
            raise ValueError
        z, y, x = (slice(*(int(end) if end.strip() else None for end in part)) for part in parts)
    except ValueError as error:
        raise UserError(f"{option} must be a box z0:z1,y0:y1,x0:x1, got {text!r:.80}") from error
    return z, y, x


def prediction_overrides(
    override: Sequence[str] | None,
    postprocessing: str | None,
    *,
    tile: str | None = None,
    overlap: float | None = None,
    mirror: bool | None = None,
    rotate: bool | None = None,
) -> tuple[str, ...]:
    """Options of prediction as overrides of a run's configuration; an option of its own wins over `-o`.

    Raises:
        UserError: A tile that is not three whole numbers, or no such post-processing.
    """
    from volumen.config.fragments import postprocessing_override

    given: dict[str, object] = {
        "tile": None if tile is None else list(three_whole_numbers(tile, "--tile")),
        "overlap": overlap,
        "mirror": mirror,
        "rotate": rotate,
    }
    own = [f"inference.{name}={json.dumps(value)}" for name, value in given.items() if value is not None]
    return (*postprocessing_override(postprocessing), *(override or ()), *own)
