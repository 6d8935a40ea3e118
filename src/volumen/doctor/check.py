"""What a check is: pure functions of the context, and the words that explain them.

To add one, write a `Check` beside what it measures and put it into the table `volumen.doctor.audit.CHECKS`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from volumen.doctor.context import Context
from volumen.doctor.findings import Finding


@dataclass(frozen=True)
class Check:
    """One check of the audit; its words make the page that explains it."""

    code: str
    title: str
    symptom: str
    """How the fault shows later, if nobody looks now."""
    why: str
    """Why it happens."""
    measured: str
    """What is computed, on what."""
    remedy: str
    """What to do about a finding."""
    run: Callable[[Context], Iterable[Finding]] | None = None
    """What the quick audit does; None where all of it takes minutes."""
    seconds: float = 1.0
    """What that takes, about, on two cores: where time is short, what takes longest comes last."""
    thorough: Callable[[Context], Iterable[Finding]] | None = None
    """What the full audit does besides."""
