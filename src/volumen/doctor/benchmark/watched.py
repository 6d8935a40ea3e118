"""Our own examiners: the monitors alone, the doctor at the end of a run, and the doctor beside it."""

from functools import lru_cache
from pathlib import Path

from volumen.doctor.benchmark.audits import audited
from volumen.doctor.benchmark.examining import Alarm, Verdict, verdict_of
from volumen.monitors.diagnosis import SICK, Diagnosis, diagnoses
from volumen.monitors.history import read_history
from volumen.monitors.seen import History
from volumen.monitors.watching import replay
from volumen.runs.folder import METRICS

SPOKEN = ("stop", "warn")


def examine_signs(run: Path) -> Verdict:
    """What the monitors R1 to R14 say: every sign that is more than a note is an alarm; signs name no causes."""
    _, signs = replay(_history(run))
    spoken = [sign for sign in signs if sign.severity in SPOKEN]
    return verdict_of([Alarm(f"{sign.code} {sign.name}", sign.step, "") for sign in spoken])


def examine_at_the_end(run: Path) -> Verdict:
    """The diagnosis of the whole run; its alarm dates from when the run was called sick and stayed so."""
    found = _diagnoses(run)
    healthy = [number for number, (_, one) in enumerate(found) if one.state != SICK]
    stretch = found[healthy[-1] + 1 if healthy else 0 :]
    if not stretch:
        return Verdict(())
    cause = _first_cause(stretch[-1][1])
    return Verdict((Alarm(cause or SICK, stretch[0][0], cause),), cause)


def examine_beside(run: Path) -> Verdict:
    """As a person who watches and stops the run at the first diagnosis: the first one that says sick, and its cause."""
    sick = [(step, one) for step, one in _diagnoses(run) if one.state == SICK]
    if not sick:
        return Verdict(())
    step, first = sick[0]
    cause = _first_cause(first)
    return Verdict((Alarm(cause or SICK, step, cause), *_later(sick[1:])), cause)


def _later(sick: list[tuple[int, Diagnosis]]) -> tuple[Alarm, ...]:
    return tuple(Alarm(_first_cause(one) or SICK, step, _first_cause(one)) for step, one in sick)


def _diagnoses(run: Path) -> tuple[tuple[int, Diagnosis], ...]:
    return _diagnoses_at(run, _written(run))


def _history(run: Path) -> History:
    return _history_at(run, _written(run))


def _written(run: Path) -> int:
    """When a run's records were last written; 0 where there are none. Examiners share what they read of one run."""
    path = run / METRICS
    return path.stat().st_mtime_ns if path.is_file() else 0


@lru_cache(maxsize=1)
def _diagnoses_at(run: Path, written: int) -> tuple[tuple[int, Diagnosis], ...]:
    return tuple((memory.step, found) for memory, found in diagnoses(_history(run), audited(run)))


@lru_cache(maxsize=1)
def _history_at(run: Path, written: int) -> History:
    return read_history(run)


def _first_cause(diagnosis: Diagnosis) -> str:
    return diagnosis.causes[0].name if diagnosis.causes else ""
