"""The audit, what a run can reach, said before it starts: the table of all checks, and their run."""

import math
import time
from dataclasses import dataclass, field

from volumen.doctor.check import Check
from volumen.doctor.context import Context, Parts, open_context
from volumen.doctor.cost.budget import check_budget
from volumen.doctor.cost.check import COST
from volumen.doctor.data.check import DATA
from volumen.doctor.findings import Finding, Severity, gravest_first
from volumen.doctor.labels import LABELS, SHEETS
from volumen.doctor.learning_rate import LEARNING_RATE
from volumen.doctor.machine import MACHINE
from volumen.doctor.objective.check import CONSTANT, FLOOR, OPERATING_POINT
from volumen.doctor.protocol import PROTOCOL
from volumen.doctor.settings.check import SETTINGS
from volumen.doctor.start.check import START
from volumen.errors import UserError
from volumen.system.output import Progress, unheard
from volumen.system.stopping import OutOfTime, within

__all__ = ["CHECKS", "AuditReport", "Check", "Context", "Parts", "check_codes", "open_context", "run_audit"]

CHECKS: dict[str, Check] = {
    check.code: check
    for check in (
        LABELS, SHEETS, OPERATING_POINT, CONSTANT, FLOOR, SETTINGS, DATA, START, PROTOCOL, LEARNING_RATE, COST, MACHINE,
    )
}  # fmt: skip
"""Every check by its code, in the order in which they run: a new one is added here."""


@dataclass(frozen=True)
class AuditReport:
    """What the audit found, gravest first, and what it cost."""

    findings: tuple[Finding, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by check."""

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def refusals(self, accepted: tuple[str, ...] = ()) -> tuple[Finding, ...]:
        """The findings that stop a run and were not accepted by their code.

        Raises:
            UserError: an accepted code does not exist.
        """
        check_codes(accepted)
        return tuple(finding for finding in self.of(Severity.stop) if finding.code not in accepted)


def run_audit(
    context: Context,
    *,
    full: bool = False,
    only: tuple[str, ...] = (),
    limit_seconds: float = math.inf,
    progress: Progress = unheard,
) -> AuditReport:
    """Run every check.

    Args:
        context: The run to look at.
        full: Also what takes minutes: overfitting a patch, the range of learning rates, memory.
        only: Codes of the checks to run; all of them if empty.
        limit_seconds: What is not done by then is left out, and said so; the quickest checks are done first.
        progress: Told the title of the next check, its number and how many there are.

    Raises:
        UserError: A code that does not exist.
    """
    check_codes(only)
    checks = [check for check in CHECKS.values() if not only or check.code in only]
    jobs = [(check, check.run) for check in checks if check.run is not None]
    if full:
        jobs += [(check, check.thorough) for check in checks if check.thorough is not None]
    if limit_seconds < math.inf:
        jobs.sort(key=lambda job: job[0].seconds)
    findings = [*check_budget(context)] if not only or COST.code in only else []
    seconds: dict[str, float] = {}
    left_out: list[str] = []
    start = time.perf_counter()
    for number, (check, job) in enumerate(jobs):
        progress(check.title, number, len(jobs))
        began = time.perf_counter()
        try:
            with within(limit_seconds - (began - start)):
                findings += tuple(job(context))
        except OutOfTime:
            left_out.append(check.code)
            continue
        seconds[check.code] = seconds.get(check.code, 0.0) + time.perf_counter() - began
    if left_out:
        findings.append(_unfinished(left_out, limit_seconds))
    return AuditReport(gravest_first(findings), seconds)


def _unfinished(codes: list[str], limit_seconds: float) -> Finding:
    return Finding(
        code="P11",
        severity=Severity.note,
        title=f"the audit had no time for {', '.join(codes)}",
        evidence=f"it has {max(0.0, limit_seconds):.0f} s, a share of the time budget",
        causes=("a short time budget", "other programs use this machine"),
        remedies=("volumen audit CONFIG, which takes the time it needs",),
        where="--time-budget",
    )


def check_codes(codes: tuple[str, ...]) -> None:
    """Refuse codes that no check has.

    Raises:
        UserError: Names them, and those that there are.
    """
    unknown = sorted(set(codes) - set(CHECKS))
    if unknown:
        raise UserError(f"there is no check {', '.join(unknown)}: the codes are {', '.join(CHECKS)}")
