"""The table of examiners that the benchmark scores."""

from volumen.doctor.benchmark.baselines import BASELINES
from volumen.doctor.benchmark.examining import Examiner
from volumen.doctor.benchmark.runmedic import examine_with_runmedic, has_runmedic
from volumen.doctor.benchmark.watched import examine_at_the_end, examine_beside, examine_signs


def examiners() -> dict[str, Examiner]:
    """All that are at hand, by name; others add one line here."""
    own: dict[str, Examiner] = {
        "doctor": examine_at_the_end,
        "doctor_beside": examine_beside,
        "monitors": examine_signs,
    }
    found: dict[str, Examiner] = {**own, **BASELINES}
    if has_runmedic():
        found["runmedic"] = examine_with_runmedic
    return found
