"""Errors of the machine in the middle of a training, in words and with the way on: no memory, no card."""

from volumen.errors import UserError
from volumen.training.fitting import ran_out_of_memory
from volumen.training.lost_device import is_lost, lost_device
from volumen.training.out_of_memory import Updates, out_of_memory
from volumen.training.session import Session
from volumen.training.sharing import seen_here


def explained(session: Session, error: BaseException, updates: Updates) -> UserError | None:
    """What a run ends with; None where nothing is known of the error, which then is one of ours.

    Where the memory ran out, the state is saved and what fits is looked for. Of a card that is gone nothing can be
    read: the last checkpoint stands.
    """
    if ran_out_of_memory(error):
        try:
            return out_of_memory(session, error, updates)
        except RuntimeError as worse:
            if not is_lost(worse):
                raise
            error = worse
    if not is_lost(error):
        return None
    listed = seen_here(session.run.checkpoints).manifest().latest  # the other ranks may not be asked any more
    return lost_device(error, session.run.path, listed[-1].step if listed else None)
