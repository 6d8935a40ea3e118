"""Options that are more than a word or a number."""

import re


def three_numbers(text: str, option: str) -> tuple[float, float, float]:
    """Three positive numbers z,y,x separated by commas or x, or one for all.

    Raises:
        UserError: anything else.
    """
    from volumen.errors import UserError

    parts = [part.strip() for part in text.replace("x", ",").split(",")]
    if len(parts) not in (1, 3) or not all(re.fullmatch(r"\d+(\.\d*)?|\.\d+", part) for part in parts):
        raise UserError(f"{option} must be three numbers z,y,x or one for all, got {text!r}")
    z, y, x = (float(part) for part in parts * (3 // len(parts)))
    return z, y, x


def three_whole_numbers(text: str, option: str) -> tuple[int, int, int]:
    """Three whole numbers z,y,x separated by commas or x, or one for all.

    Raises:
        UserError: anything else.
    """
    from volumen.errors import UserError

    if "." in text:
        raise UserError(f"{option} must be three whole numbers z,y,x or one for all, such as 64,128,128, got {text!r}")
    z, y, x = three_numbers(text, option)
    return int(z), int(y), int(x)


def numbers(text: str, option: str) -> list[float]:
    """Numbers separated by commas.

    Raises:
        UserError: anything else.
    """
    from volumen.errors import UserError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"{option} must be numbers separated by commas, such as 0.5,0.5, got {text!r}") from error


def box(text: str, option: str) -> tuple[slice, slice, slice]:
    """A box such as `0:64,10:90,:`, z y x; an end that is left out is the volume's.

    Raises:
        UserError: It is something else.
    """
    from volumen.errors import UserError

    parts = [part.split(":") for part in text.split(",")]
    try:
        z, y, x = (slice(*(int(end) if end.strip() else None for end in part)) for part in parts if len(part) == 2)
    except ValueError as error:
        raise UserError(f"{option} must be a box z0:z1,y0:y1,x0:x1, got {text!r}") from error
    return z, y, x
