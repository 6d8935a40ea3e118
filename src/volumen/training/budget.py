"""A time budget, turned into a number of steps, so that the schedule ends when the time does."""

from volumen.errors import UserError

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `90s`, `20m`, `2h` or `1.5d`.

    Raises:
        UserError: It is none.
    """
    number, unit = text[:-1], text[-1:]
    try:
        seconds = float(number) * UNITS[unit]
    except (ValueError, KeyError):
        seconds = 0.0
    if not 0.0 < seconds < float("inf"):
        raise UserError(f"{text!r} is not a duration: give a number above 0 and a unit, such as 90s, 20m, 2h or 1.5d")
    return seconds


def affordable_steps(
    done: int,
    *,
    configured: int,
    seconds_left: float,
    step_seconds: float,
    validation_seconds: float,
    steps_per_validation: int,
) -> int:
    """The number of steps a run can have in all.

    Args:
        done: Steps done.
        configured: The most steps the configuration wants.
        seconds_left: Of the budget; the last validation is paid from it first.
        step_seconds: What a step takes, waiting for its patches included.
        validation_seconds: What a validation takes; 0 before the first one.
        steps_per_validation: Steps between two validations.

    Returns:
        At least `done`, at most `configured`.
    """
    each = step_seconds + validation_seconds / steps_per_validation
    return min(configured, done + max(int((seconds_left - validation_seconds) / each), 0))
