"""What is wrong with a configuration: one `Problem` per mistake, all of them in one `ConfigError`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from volumen.errors import UserError
from volumen.system.names import one_line
from volumen.system.output import counted

DEFAULT = "default"  # origin of a value that nobody wrote
OVERRIDE = "override"  # origin of a value from the command line's -o

_LONGEST = 1000


@dataclass(frozen=True)
class Problem:
    """One mistake: where it was written, which key it concerns, and what to do about it."""

    origin: str
    """`file:line`, `override`, or the file alone where a whole file is meant."""
    key: str
    """Dotted key, empty where the mistake is not about one key."""
    text: str
    """What is wrong, expected, got, fix."""
    blocking: bool = False
    """Whether a whole file is missing because of it, so that checking the keys would mislead."""

    def __str__(self) -> str:
        return one_line(": ".join(part for part in (self.origin, self.key, self.text) if part), _LONGEST)


class ConfigError(UserError):
    """A configuration that cannot be used; the message lists its problems, one a line, up to a screenful or two."""

    MOST = 50

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        self.source = source
        self.problems = sorted(dict.fromkeys(problems), key=_reading_order)
        count = counted(len(self.problems), "problem")
        listed = [f"  {problem}" for problem in self.problems[: self.MOST]]
        if len(self.problems) > self.MOST:
            listed.append(f"  and {len(self.problems) - self.MOST} more; correct these first")
        lines = [f"{one_line(source, _LONGEST)} has {count}:", *listed]
        super().__init__("\n".join(lines))


def _reading_order(problem: Problem) -> tuple[str, int]:
    """Problems of one file stand together, in the order of its lines."""
    match = re.fullmatch(r"(.*):(\d+)", problem.origin)
    return (match[1], int(match[2])) if match else (problem.origin, 0)
