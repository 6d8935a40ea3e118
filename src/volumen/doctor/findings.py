"""What the doctor says: a code, how grave it is, the evidence, the likely causes in order, and what to do."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How grave a finding is."""

    stop = "stop"
    """The run cannot reach what it is meant to; it is not started unless the code is accepted."""
    warn = "warn"
    """The run may be worth less than it seems."""
    note = "note"
    """Worth knowing."""


GRAVEST_FIRST = tuple(Severity)


@dataclass(frozen=True)
class Finding:
    """One thing found."""

    code: str
    """Of the check, such as P3."""
    severity: Severity
    title: str
    evidence: str
    """The numbers, and what they were measured on."""
    causes: tuple[str, ...]
    """Likely causes, the likeliest first."""
    remedies: tuple[str, ...]
    """What would help, the best first."""
    where: str
    """Configuration key, file or case."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values under the names of the fields: the stable form of `volumen audit --json`."""
        return {**asdict(self), "severity": str(self.severity)}


def gravest_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings by severity, those of one severity in the order in which they came."""
    return tuple(sorted(findings, key=lambda finding: GRAVEST_FIRST.index(finding.severity)))
