"""The table of examiners that the benchmark scores."""

from volumen.doctor.benchmark.baselines import BASELINES
from volumen.doctor.benchmark.examining import Examiner
from volumen.doctor.benchmark.runmedic import examine_with_runmedic, has_runmedic
from volumen.doctor.benchmark.watched import examine_signs


def examiners() -> dict[str, Examiner]:
    """All that are at hand, by name; others add one line here."""
    found: dict[str, Examiner] = {"monitors": examine_signs, **BASELINES}
    if has_runmedic():
        found["runmedic"] = examine_with_runmedic
    return found
