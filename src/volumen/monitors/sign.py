"""What a monitor says: a code, what it saw in one word, how grave, and the numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sign:
    """One thing that a monitor saw. It is no diagnosis: causes are found from all signs together."""

    code: str
    """Of the monitor, R1 to R14."""
    name: str
    """What was seen, such as `degraded`."""
    severity: str
    """`stop`, `warn` or `note`."""
    evidence: str
    """A sentence with the numbers."""
    epoch: int
    step: int
    where: str = ""
    """Term, layer or case, where it is one."""
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str]:
        """A sign is told once for each."""
        return self.code, self.name, self.where

    def event(self) -> dict[str, Any]:
        """As it stands in `events.jsonl`."""
        said = {"code": self.code, "name": self.name, "severity": self.severity, "evidence": self.evidence}
        return {"kind": "sign", **said, **({"where": self.where} if self.where else {}), "numbers": dict(self.numbers)}
