"""Run the audit: every check in order, gravest findings first."""

import math
import time
from dataclasses import dataclass, field

from volumen.doctor.audit.budget import check_budget
from volumen.doctor.audit.check import Check
from volumen.doctor.audit.context import Context
from volumen.doctor.audit.cost import COST
from volumen.doctor.audit.data import DATA
from volumen.doctor.audit.labels import LABELS, SHEETS
from volumen.doctor.audit.liveness import LIVENESS
from volumen.doctor.audit.objective import CONSTANT, FLOOR, OPERATING_POINT
from volumen.doctor.audit.protocol import PROTOCOL
from volumen.doctor.audit.rate import RATE
from volumen.doctor.audit.start import START
from volumen.doctor.findings import Finding, Severity, gravest_first
from volumen.errors import UserError
from volumen.system.output import Progress, unheard
from volumen.system.stopping import OutOfTime, within

CHECKS: dict[str, Check] = {
    check.code: check
    for check in (LABELS, SHEETS, OPERATING_POINT, CONSTANT, FLOOR, LIVENESS, DATA, START, PROTOCOL, RATE, COST)
}


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
