"""What a check is: pure functions of the context.

To add one, write a `Check` beside what it measures, put it into the table `volumen.doctor.audit.CHECKS`, and explain it
in `docs/audit.md`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from volumen.doctor.context import Context
from volumen.doctor.findings import Finding


@dataclass(frozen=True)
class Check:
    """One check of the audit."""

    code: str
    title: str
    run: Callable[[Context], Iterable[Finding]] | None = None
    """What the quick audit does; None where all of it takes minutes."""
    seconds: float = 1.0
    """What that takes, about, on two cores: where time is short, what takes longest comes last."""
    thorough: Callable[[Context], Iterable[Finding]] | None = None
    """What the full audit does besides."""
