"""The table of monitors, and how they run: live, or over a history that has ended; the result is the same."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from volumen.monitors.gradients import layers, noise, rate, terms
from volumen.monitors.loading import starved
from volumen.monitors.memory import Memory
from volumen.monitors.outputs import bias, ignored_input, outputs
from volumen.monitors.progress import disagreement, overfitting, plateau
from volumen.monitors.seen import EpochSeen, EventSeen, History, ProbeSeen, RunFacts, Seen, StepsSeen, ValidationSeen
from volumen.monitors.sign import Sign
from volumen.monitors.stability import degraded, jump, non_finite, spike

MOST_ROWS = 600
_ROWS: tuple[type, ...] = (EpochSeen, StepsSeen, ProbeSeen, ValidationSeen)
Look = Callable[[Memory, Seen], Iterable[Sign]]


@dataclass(frozen=True)
class Monitor:
    """One monitor: a pure function of what was seen so far, the newest record among it, and that record."""

    code: str
    title: str
    look: Look
    kinds: tuple[type, ...]
    """Records that it judges by: its signs of before stand until such a record comes without them."""
    lasting: bool = False
    """Whether what it sees has happened for good, such as a loss that was no number."""


MONITORS: tuple[Monitor, ...] = (
    Monitor("R1", "non-finite numbers", non_finite, (StepsSeen, EpochSeen, ValidationSeen, EventSeen), lasting=True),
    Monitor("R2", "spikes", spike, (StepsSeen,), lasting=True),
    Monitor("R2", "jumps", jump, (StepsSeen,), lasting=True),
    Monitor("R3", "degradation", degraded, (ValidationSeen,)),
    Monitor("R4", "plateau", plateau, (ValidationSeen,)),
    Monitor("R5", "overfitting", overfitting, (ValidationSeen,)),
    Monitor("R6", "empty outputs", outputs, (ValidationSeen, ProbeSeen)),
    Monitor("R7", "surface share", bias, (ValidationSeen,)),
    Monitor("R8", "terms", terms, (ProbeSeen,)),
    Monitor("R9", "layers", layers, (ProbeSeen,)),
    Monitor("R10", "learning rate", rate, (EpochSeen, EventSeen)),
    Monitor("R11", "gradient noise", noise, (ProbeSeen,)),
    Monitor("R12", "loss and metric", disagreement, (ValidationSeen,)),
    Monitor("R13", "input", ignored_input, (ProbeSeen,)),
    Monitor("R14", "data loading", starved, (EpochSeen,)),
)
"""Every monitor; a new one is added here."""


def observe(memory: Memory, record: Seen) -> tuple[Memory, tuple[Sign, ...]]:
    """One step of the reducer: the memory with the record, and the signs that are new with it."""
    memory = memory.after(record)
    standing, lasting, new = dict(memory.standing), dict(memory.lasting), list[Sign]()
    for monitor in MONITORS:
        if not isinstance(record, monitor.kinds):
            continue
        seen = {sign.key: sign for sign in monitor.look(memory, record)}
        known = lasting if monitor.lasting else standing
        if not monitor.lasting:
            for key in [key for key in standing if key[0] == monitor.code and key not in seen]:
                if _judges(monitor, key, record):
                    del standing[key]
        for key, sign in seen.items():
            if key not in known:
                new.append(sign)
            first = known.get(key, sign)
            known[key] = replace(sign, epoch=first.epoch, step=first.step)
    return replace(memory, standing=standing, lasting=lasting), tuple(new)


def _judges(monitor: Monitor, key: tuple[str, str, str], record: Seen) -> bool:
    """Whether a record without a sign takes it back: a validation says nothing about what a probe saw, or an
    event about an epoch."""
    if monitor.code == "R6":
        return isinstance(record, ProbeSeen) == (key[1] in ("half_range", "uniform"))
    if monitor.code == "R10":
        return isinstance(record, EventSeen) == (key[1] == "rate_writers")
    return True


class Monitors:
    """All monitors over one training."""

    def __init__(self, setting: RunFacts) -> None:
        self.memory = Memory(setting)

    def see(self, record: Seen) -> tuple[Sign, ...]:
        """Take in a record; the signs that are new with it."""
        self.memory, new = observe(self.memory, record)
        return new


def thinned(history: History) -> History:
    """A history of which no more than `MOST_ROWS` epochs and validations each are left, evenly, and all else is.

    A rule looks back over all that was seen, so that its cost grows with the square of a log's length.
    """
    counts = {kind: sum(isinstance(one, kind) for one in history.records) for kind in _ROWS}
    every = {kind: -(-count // MOST_ROWS) for kind, count in counts.items()}
    if max(every.values()) <= 1:
        return history
    seen, kept = dict.fromkeys(_ROWS, 0), list[Seen]()
    for record in history.records:
        kind = type(record)
        if kind in seen:
            seen[kind] += 1
            if seen[kind] % every[kind]:
                continue
        kept.append(record)
    said = f"only every {max(every.values())}th of {max(counts.values())} records is looked at"
    return replace(history, records=tuple(kept), faults=(*history.faults, said))


def replayed(history: History) -> Iterator[tuple[Memory, tuple[Sign, ...]]]:
    """The memory after each record of a history, and the signs that were new then."""
    memory = Memory(history.setting)
    for record in history.records:
        memory, new = observe(memory, record)
        yield memory, new


def replay(history: History) -> tuple[Memory, tuple[Sign, ...]]:
    """The memory at the end of a history, and all signs in the order in which they came."""
    memory, signs = Memory(history.setting), list[Sign]()
    for after, new in replayed(history):
        memory = after
        signs += new
    return memory, tuple(signs)
