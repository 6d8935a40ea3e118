"""The audit: what a run can reach, said before it starts.

`CHECKS` lists every check with its explanation; `run_audit` runs them; `Context` is what they look at.
"""

from volumen.doctor.audit.check import Check
from volumen.doctor.audit.context import Context
from volumen.doctor.audit.parts import Parts
from volumen.doctor.audit.run import CHECKS, AuditReport, run_audit

__all__ = ["CHECKS", "AuditReport", "Check", "Context", "Parts", "run_audit"]
