"""Our own monitors as an examiner: every sign that is more than a note is an alarm."""

from pathlib import Path

from volumen.doctor.benchmark.examining import Alarm, Verdict, verdict_of
from volumen.monitors.history import read_history
from volumen.monitors.watching import replay

SPOKEN = ("stop", "warn")


def examine_signs(run: Path) -> Verdict:
    """What the monitors R1 to R14 say of a run's records; signs name no causes."""
    _, signs = replay(read_history(run))
    spoken = [sign for sign in signs if sign.severity in SPOKEN]
    return verdict_of([Alarm(f"{sign.code} {sign.name}", sign.step, "") for sign in spoken])
