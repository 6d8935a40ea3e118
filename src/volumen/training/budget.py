"""A time budget, turned into a number of epochs, so that the schedule ends when the time does."""

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


def affordable_epochs(done: int, seconds: float, budget: float | None, configured: int) -> int:
    """The number of epochs the run can have in all.

    Args:
        done: Epochs done, at least 1.
        seconds: What they took, validation and checkpoints included.
        budget: Seconds of the whole run, earlier sittings included; None is no limit.
        configured: The most epochs the configuration wants.
    """
    if budget is None:
        return configured
    return min(configured, done + max(int((budget - seconds) / (seconds / done)), 0))
