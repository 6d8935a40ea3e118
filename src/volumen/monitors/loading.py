"""R14: the network waits for its data."""

from collections.abc import Iterator

from volumen.monitors.memory import Memory
from volumen.monitors.seen import EpochSeen, Seen
from volumen.monitors.sign import Sign

WAITING, EPOCHS = 0.2, 2


def starved(memory: Memory, record: Seen) -> Iterator[Sign]:
    """R14: more than a fifth of the time of two epochs is spent waiting for patches; the first epoch warms up."""
    if not isinstance(record, EpochSeen):
        return
    last = memory.epochs[1:][-EPOCHS:]
    shares = [one.loader_seconds / one.seconds for one in last if one.seconds and one.loader_seconds is not None]
    if len(shares) == EPOCHS and min(shares) > WAITING:
        said = f"{min(shares):.0%} of the time of {EPOCHS} epochs and more was spent waiting for patches"
        yield Sign("R14", "starved", "note", said, record.epoch, record.step, numbers={"share": min(shares)})
