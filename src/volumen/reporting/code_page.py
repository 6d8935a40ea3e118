"""The audit of code as a page: what was found, and what was looked at."""

from collections.abc import Sequence

from volumen.doctor.code.audit import Looked
from volumen.doctor.findings import Finding, Severity
from volumen.reporting.page import render
from volumen.reporting.score_tables import Row

CHIPS = {Severity.stop: "bad", Severity.warn: "waiting", Severity.note: "open"}
HEADINGS = ("check", "code", "what was done", "seconds")


def code_page(findings: Sequence[Finding], checks: Sequence[Looked]) -> str:
    """The page: findings gravest first, and every check."""
    shown = [{"found": one, "chip": CHIPS[one.severity]} for one in findings]
    rows = [Row((one.name, one.code, one.done, f"{one.seconds:.1f}" if one.ran else ""), "") for one in checks]
    return render("code.html", findings=shown, rows=rows, headings=HEADINGS)
