"""What is done where memory runs out in a training: save what is whole, find what fits, say how to go on.

A step is done or it is not: the state is whole unless the memory ran out between the first weight that an update
changes and the cursor that counts it. Then the last checkpoint stands.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.runs.folder import RAN_OUT
from volumen.system.memory import amount
from volumen.training.advance import advance, read_back
from volumen.training.fitting import Size, finds_room, let_go, random_batch, smaller_sizes
from volumen.training.session import Session

OTHERS_BYTES = 2 * 2**30
"""What others hold of a card before it is worth a word: this process' own context is no allocation of PyTorch's."""


class OutOfMemoryError(UserError, MemoryError):
    """A training needs more memory than there is; the message says what fits."""


class Updates:
    """At which step of a run the last update of weights began."""

    def __init__(self, session: Session) -> None:
        self._session, self._begun_at = session, -1

    def note(self, optimiser: Optimizer, arguments: Any, named: Any) -> None:
        """Called by every optimiser before it changes anything."""
        if optimiser is self._session.state.optimiser:
            self._begun_at = self._session.state.cursor.step

    @property
    def is_whole(self) -> bool:
        """Whether the state is one between two steps of the run, and none in the middle of an update or of a trial."""
        state = self._session.state
        return self._begun_at != state.cursor.step and state.repairs.tournament is None


@contextmanager
def updates_of(session: Session) -> Iterator[Updates]:
    """Watch where a session's updates begin."""
    updates = Updates(session)
    handle = register_optimizer_step_pre_hook(updates.note)
    try:
        yield updates
    finally:
        handle.remove()


def out_of_memory(session: Session, error: BaseException, updates: Updates) -> OutOfMemoryError:
    """Save the state where it is whole, find what fits, and say both: what a run that ran out of memory ends with."""
    state, config, store = session.state, session.config, session.run.checkpoints
    said, others = _first_line(error), others_bytes(session.device)
    session.recorder = None  # and what it recorded
    let_go(error, state.optimiser, session.device)
    if updates.is_whole and session.world.is_alone:  # of several ranks the others are in the midst of a step
        read_back(session, wait=True)
        session.save(waits=False)
    validates = state.ended_epoch or state.cursor.batch >= session.loader.batches_per_epoch
    fits = None if validates else _fitting(session, tries_own=others > 0)
    fact = {} if fits is None else {"batch": fits.batch, "patch": list(fits.patch)}
    session.event({"kind": RAN_OUT, "message": said, "other_programs_bytes": others, **fact})
    during = f"a validation with tiles {list(config.tile)}" if validates else "a step of " + _own(config).all_words()
    what = f"memory ran out in {during} ({said})"
    if others:
        what += f"; other programs hold {amount(others)} of the card"
    if not session.world.is_alone:
        kept, command = "the last checkpoint stands", "go on by the same torchrun with --resume"
    elif store.is_empty():
        kept, command = "no step was saved yet", "start again"
    else:
        kept = f"the state of step {store.manifest().latest[-1].step} is saved"
        command = f"go on with: volumen train {session.run.path} --resume"
    fix = _fix(config, fits, validates=validates, was_tried=session.world.is_alone)
    return OutOfMemoryError(f"{what}; {kept}; {fix}; {command}{_options(config, fits)}")


def _own(config: Config) -> Size:
    return Size(config.data.batch, config.data.patch)


def _fix(config: Config, fits: Size | None, *, validates: bool, was_tried: bool) -> str:
    if validates:
        return "free the card, or start a new run with a smaller inference.tile"
    if fits is None and not was_tried:
        return "free the memory"
    if fits is None:
        return "not even one small patch fits now: free the memory"
    if not was_tried:
        return f"{fits.all_words()} may fit"
    return f"{fits.all_words()} fits" + (" again" if fits == _own(config) else "")


def _options(config: Config, fits: Size | None) -> str:
    return "" if fits is None or fits == _own(config) else f" {fits.options(config)}"


def _first_line(error: BaseException) -> str:
    return f"{(str(error).splitlines() or [''])[0] or type(error).__name__:.160}"


def others_bytes(device: torch.device) -> int:
    """What other programs hold of a card; 0 where that is little, or there is no card."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    held = total - free - torch.cuda.memory_reserved(device)
    return held if held > OTHERS_BYTES else 0


def _fitting(session: Session, *, tries_own: bool) -> Size | None:
    """The largest size of a step that fits now, by trying; what that does to the weights does not matter any more."""
    own, state, ranks = _own(session.config), session.state, session.world.size
    if not session.world.is_alone:  # a step alone would wait for the others
        part = next(smaller_sizes(Size(own.batch // ranks, own.patch), session.config.divisor), None)
        return None if part is None else Size(part.batch * ranks, part.patch)
    cursor = copy(state.cursor)
    try:
        tried = (*([own] if tries_own else []), *smaller_sizes(own, session.config.divisor))
        return next((size for size in tried if _fits(session, size)), None)
    finally:
        state.cursor = cursor


def _fits(session: Session, size: Size) -> bool:
    objective = session.state.objective()
    batch = random_batch(size, objective.requires)
    batch["meta"] = {"case": torch.zeros(size.batch, dtype=torch.int64)}
    session.state.model.train()
    return finds_room(lambda: advance(session, objective, batch), session.state.optimiser, session.device)
