"""What a run that goes on is seen to have: the monitors' signs, and the diagnosis made of them."""

from collections.abc import Sequence

from volumen.monitors.diagnosis import SICK
from volumen.monitors.sign import Sign
from volumen.training.remedies import CAUSE
from volumen.training.session import Session

CONFIDENT = 0.5
"""Confidence from which on a diagnosed cause counts like a grave sign."""


def standing_signs(session: Session) -> Sequence[Sign]:
    """What the run's monitors see now, and the likeliest cause of an illness as one sign more."""
    if session.monitors is None:
        return ()
    memory, found = session.monitors.memory, session.diagnosis
    since = memory.validations[-2].step if len(memory.validations) > 1 else 0
    signs = [*memory.standing.values(), *(one for one in memory.lasting.values() if one.step > since)]
    if found is not None and found.state == SICK and found.causes:
        cause, cursor = found.causes[0], session.state.cursor
        severity = "stop" if cause.confidence >= CONFIDENT else "note"
        signs.append(Sign(CAUSE, cause.name, severity, "; ".join(cause.speaks_for), cursor.epoch, cursor.step))
    return signs
