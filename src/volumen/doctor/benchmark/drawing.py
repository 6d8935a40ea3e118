"""What is run, and in which order: every draw is a pure function of the tables and the seed.

Healthy runs come first, since harm is measured against them. Then the order goes round the kinds, all seeds of one
variant of each, with controls between them, so that the benchmark can be stopped at any time and has a balanced table.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from volumen.doctor.benchmark.controls import CONTROLS, setup_of
from volumen.doctor.benchmark.faults import FAULTS, Fault
from volumen.doctor.benchmark.setups import HALVES, SETUPS, Half
from volumen.errors import UserError
from volumen.system.names import checked_name

FIRST_SEEDS, MOST_SEEDS, HEALTHY_SEEDS = 3, 5, 8
Group = Literal["fault", "control", "healthy"]


@dataclass(frozen=True)
class Draw:
    """One training."""

    group: Group
    kind: str
    """Of the fault or the control; `healthy` for a set-up as it is."""
    strength: int
    """Which of a fault's strengths, from 0, the strongest."""
    onset: float
    """Share of the run after which a fault comes in."""
    setup: str
    half: Half
    seed: int

    @property
    def variant(self) -> str:
        """What draws have in common that differ in the seed."""
        if self.group != "fault":
            return f"{self.group}-{self.kind}-{self.setup}"
        return f"fault-{self.kind}-{self.strength}-{round(100 * self.onset):02d}-{self.setup}"

    @property
    def name(self) -> str:
        """Of its folder."""
        return checked_name(f"{self.variant}-s{self.seed}", "name of a run", "the benchmark")


@dataclass(frozen=True)
class _Placed:
    wave: float
    shuffle: str
    draw: Draw


def plan(seed: int = 0, only: str | None = None) -> list[Draw]:
    """All draws in their order.

    Args:
        seed: Of the benchmark; other seeds are other runs.
        only: A kind of fault or control; healthy runs of its set-ups stay.
    """
    placed = [*_healthy(seed), *_controls(seed)]
    for number, fault in enumerate(FAULTS.values()):
        placed += _variants(fault, number, seed)
    if only is not None:
        setups = {one.draw.setup for one in placed if one.draw.kind == only}
        placed = [one for one in placed if one.draw.kind == only or _is_healthy(one.draw, setups)]
    return [one.draw for one in sorted(placed, key=lambda one: (one.wave, one.shuffle, one.draw.seed))]


def kinds() -> tuple[str, ...]:
    """Kinds of faults and controls."""
    return (*FAULTS, *(control.kind for control in CONTROLS["tune"]))


def _is_healthy(draw: Draw, setups: set[str]) -> bool:
    return draw.group == "healthy" and draw.setup in setups


def _place(wave: float, draw: Draw) -> _Placed:
    return _Placed(wave, hashlib.sha256(f"{draw.variant} {draw.seed // 10}".encode()).hexdigest(), draw)


def _healthy(seed: int) -> Iterator[_Placed]:
    for setup in SETUPS.values():
        for number in range(HEALTHY_SEEDS):
            draw = Draw("healthy", "healthy", 0, 0.0, setup.name, setup.half, 100 * seed + number)
            yield _place(-1 if number < MOST_SEEDS else 1, draw)


def _controls(seed: int) -> Iterator[_Placed]:
    for half in HALVES:
        for number, control in enumerate(CONTROLS[half]):
            setup = setup_of(half, number)
            yield _place(number % 4, Draw("control", control.kind, 0, 0.0, setup.name, half, 100 * seed + 50))


def _variants(fault: Fault, number: int, seed: int) -> Iterator[_Placed]:
    """The strengths and onsets of a kind, the strongest from the start first, each on one set-up of its half."""
    rank = 0
    for onset in fault.onsets:
        for index, strength in enumerate(fault.strengths):
            half = fault.half_of(strength)
            mine = [one for one in SETUPS.values() if one.half == half]
            setup = mine[(number + rank) % len(mine)]
            for run in range(MOST_SEEDS):
                draw = Draw("fault", fault.kind, index, onset, setup.name, half, 100 * seed + 10 + run)
                yield _place(rank, draw)
            rank += 1


def checked_kind(kind: str | None) -> str | None:
    """A kind that is known, or None.

    Raises:
        UserError: There is none of that name.
    """
    if kind is not None and kind not in kinds():
        close = get_close_matches(kind, kinds(), 3) or sorted(FAULTS)
        raise UserError(f"--only {kind!r:.80} is no kind of fault or control: use one of {', '.join(close)}")
    return kind
