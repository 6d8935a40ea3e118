"""The arms of the proof of repair, and the order in which their runs are made.

Each variant of a fault that can be undone is run under every arm from the same weights on the same patches. First come
one variant of each kind under the three arms that matter most and the healthy runs of their set-ups, then pairs of
healthy runs with and without a tournament, then the other arms, then the next variants, then the next seed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import chain, zip_longest
from typing import Literal, get_args

from volumen.doctor.benchmark.drawing import MOST_SEEDS, Draw, plan
from volumen.doctor.benchmark.repairable import NOT_REPAIRABLE, REPAIRABLE
from volumen.doctor.benchmark.setups import Values
from volumen.errors import UserError
from volumen.system.names import checked_name

Arm = Literal["nothing", "tournament", "random", "restart", "reduce_on_plateau", "healthy", "off"]
"""`healthy` is the set-up without the fault, to the budget; `off` a healthy run as planned, without a tournament."""
FIRST: tuple[Arm, ...] = ("nothing", "tournament", "random")
LATER: tuple[Arm, ...] = ("restart", "reduce_on_plateau")
PAIR: tuple[Arm, ...] = ("off", "tournament")
AS_PLANNED: tuple[Arm, ...] = ("tournament", "off")
"""Arms whose own steps are the planned ones; the others go on to the budget."""
MAXIMUM_SHARE = 0.5
"""What trials may cost, as a share of the planned steps: the budget of every arm is one and a half times the plan."""
ARM_VALUES: dict[Arm, Values] = {
    "tournament": {
        "training.intervention": {
            "kind": "tournament", "candidates": 2, "maximum_share": MAXIMUM_SHARE, "cool_off_epochs": 1,
        },
    },
    "reduce_on_plateau": {"schedule": {"kind": "plateau", "patience": 2}},
}  # fmt: skip
"""Of the configuration; these runs are short, so that a tournament may follow another one soon."""
PAIRS_AT_A_TIME = 6


@dataclass(frozen=True)
class ArmDraw:
    """One arm of one draw."""

    arm: Arm
    draw: Draw

    @property
    def name(self) -> str:
        """Of its folder."""
        return checked_name(f"arm-{self.arm}-{self.draw.name}", "name of a run", "the benchmark")


def plan_repair(seed: int = 0, only: str | None = None, half: str = "both") -> list[ArmDraw]:
    """All runs of the proof in their order, each once.

    Args:
        seed: Of the benchmark.
        only: A kind of fault; the healthy runs of its set-ups stay.
        half: `tune`, `report` or `both`.
    """
    draws = [one for one in plan(seed) if half in ("both", one.half)]
    faults = [one for one in draws if can_be_undone(one) and only in (None, one.kind)]
    faults.sort(key=lambda one: list(REPAIRABLE).index(one.kind))
    setups = {one.setup for one in faults}
    ranks = _ranks(faults)
    pairs = _pairs([one for one in draws if one.setup in setups])
    ordered: list[ArmDraw] = []
    for number in range(MOST_SEEDS):
        for variants in ranks:
            now = [one for one in faults if one.variant in variants and one.seed % 10 == number]
            ordered += _main(now)
            ordered += [
                ArmDraw(arm, one) for one, _ in zip(pairs, range(PAIRS_AT_A_TIME), strict=False) for arm in PAIR
            ]
            ordered += [ArmDraw(arm, one) for one in now for arm in LATER]
    ordered += [ArmDraw(arm, one) for one in pairs for arm in PAIR]
    return list(dict.fromkeys(ordered))


def can_be_undone(draw: Draw) -> bool:
    """Whether a draw's fault can; a weight that is broken from the start has no checkpoint before it to go back to."""
    return draw.kind in REPAIRABLE and (draw.kind != "nan_weight" or draw.onset > 0)


def _ranks(faults: Sequence[Draw]) -> list[set[str]]:
    """The first variant of each kind, the second one, and so on."""
    kinds: dict[str, dict[str, None]] = {}
    for one in faults:
        kinds.setdefault(one.kind, {})[one.variant] = None
    return [{name for name in column if name is not None} for column in zip_longest(*kinds.values())]


def _main(draws: Sequence[Draw]) -> Iterator[ArmDraw]:
    """The first arms of these draws, each set-up's healthy run before its first fault."""
    for one in draws:
        yield ArmDraw("healthy", healthy_beside(one))
        yield from (ArmDraw(arm, one) for arm in FIRST)


def healthy_beside(draw: Draw) -> Draw:
    """The set-up of a draw without its fault, from the same weights on the same patches."""
    return replace(draw, group="healthy", kind="healthy", strength=0, onset=0.0)


def _pairs(draws: Sequence[Draw]) -> Iterator[Draw]:
    """Healthy runs and controls in turn."""
    groups = [[one for one in draws if one.group == group] for group in ("healthy", "control")]
    groups[0].sort(key=lambda one: one.seed)  # every set-up once before one comes again
    return iter([one for one in chain.from_iterable(zip_longest(*groups)) if one is not None])


def checked_repairable(kind: str | None) -> str | None:
    """A kind of fault that can be undone, or None.

    Raises:
        UserError: There is none of that name, or its fault cannot be undone from within.
    """
    if kind is None or kind in REPAIRABLE:
        return kind
    if kind in NOT_REPAIRABLE:
        raise UserError(
            f"--only {kind} cannot be repaired, it is {NOT_REPAIRABLE[kind]}: use one of {', '.join(REPAIRABLE)}"
        )
    close = get_close_matches(kind, REPAIRABLE, 3) or sorted(REPAIRABLE)
    raise UserError(f"--only {kind!r:.80} is no fault that can be repaired: use one of {', '.join(close)}")


ARMS: tuple[Arm, ...] = get_args(Arm)
