"""What an examiner says of a run, from the records in its folder alone."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Alarm:
    """One thing that was found."""

    name: str
    """Of the rule."""
    step: int
    """When the records that it needs were there."""
    cause: str
    """The cause it names, in the words of the faults' table; empty where it names none."""


@dataclass(frozen=True)
class Verdict:
    """What an examiner says of a run."""

    alarms: tuple[Alarm, ...]
    """By step; a run without one is called healthy."""
    cause: str = ""
    """The first-named cause of the run."""

    @property
    def alarm(self) -> bool:
        """Whether the run is called sick."""
        return bool(self.alarms)


Examiner = Callable[[Path], Verdict]


def verdict_of(alarms: list[Alarm]) -> Verdict:
    """Each rule once, when it first spoke; the earliest one that names a cause names that of the run."""
    first: dict[str, Alarm] = {}
    for alarm in sorted(alarms, key=lambda one: one.step):
        first.setdefault(alarm.name, alarm)
    named = [one.cause for one in first.values() if one.cause]
    return Verdict(tuple(first.values()), named[0] if named else "")
