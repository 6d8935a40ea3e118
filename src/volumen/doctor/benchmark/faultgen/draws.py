"""Which draws there are: each is a pure function of one whole number."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from volumen.data.randomness import generator
from volumen.doctor.benchmark.faultgen.bundle import Bundle, Scene, bundle_of
from volumen.doctor.benchmark.faultgen.code_kinds import CODE_KINDS
from volumen.doctor.benchmark.faultgen.data_kinds import DATA_KINDS
from volumen.doctor.benchmark.faultgen.healthy import NEUTRAL, healthy_bundle
from volumen.doctor.benchmark.faultgen.kind import Kind
from volumen.doctor.benchmark.faultgen.objective_kinds import OBJECTIVE_KINDS
from volumen.doctor.benchmark.faultgen.schedule_kinds import SCHEDULE_KINDS
from volumen.doctor.benchmark.faultgen.twin_kinds import TWIN_KINDS
from volumen.doctor.benchmark.setups import HALVES, Half, Values
from volumen.doctor.benchmark.volumes import Look
from volumen.errors import UserError

KINDS: dict[str, Kind] = {
    one.name: one for one in (*DATA_KINDS, *TWIN_KINDS, *OBJECTIVE_KINDS, *SCHEDULE_KINDS, *CODE_KINDS)
}
HEALTHY = "healthy"
_HEALTHY_A_ROUND = 40
"""Healthy set-ups for each pass over all kinds of a half."""
PER_SEED = 1_000_000

_SGD: Values = {"optimiser": {"kind": "sgd", "learning_rate": 0.05, "momentum": 0.9}}
_DEEP: Values = {"model": {"kind": "unet", "filters": 4, "depth": 3}}
_SMALL = 32
_PLAIN_SCROLL = Look("scroll", noise=0.1, side=_SMALL)
_PLAIN_CROP = Look("crop", noise=0.1, side=_SMALL)
_SHEETS, _BALLS, _SHELLS = Look("sheets"), Look("balls", count=14), Look("shells", count=12)
_NOISY = Look("sheets", noise=0.8, pitch=16, thickness=4)
SCENES: tuple[Scene, ...] = (
    Scene("sheets", "tune", _SHEETS, replace(_SHEETS, side=_SMALL)),
    Scene("balls", "tune", _BALLS, replace(_BALLS, side=_SMALL, count=5), 4, 2, _SGD),
    Scene("phantoms", "tune", Look("scroll", noise=0.4, side=56, scrolls=3), replace(_PLAIN_SCROLL, scrolls=3), 4, 2),
    Scene("crops", "tune", Look("crop", noise=0.5, side=64, plain=0.0), _PLAIN_CROP, 6, 2, _DEEP),
    Scene("shells", "report", _SHELLS, replace(_SHELLS, side=_SMALL, count=4)),
    Scene("noisy", "report", _NOISY, replace(_NOISY, side=_SMALL), 3, 1, _SGD),
    Scene("scrolls", "report", Look("scroll", noise=0.5, side=48, scrolls=2), _PLAIN_SCROLL, 5, 2, _DEEP),
    Scene("crops_of_other_size", "report", Look("crop", noise=0.6, side=72, plain=0.0), _PLAIN_CROP, 5, 2),
)
_COMPANIONS: tuple[Values, ...] = (
    {"schedule": {"kind": "one_cycle"}},
    {"training.average": {"decay": 0.95}},
    {"data.augmentation": {}},
)
_ALONE = 0.5
"""Share of the draws that have no companion."""


@dataclass(frozen=True)
class Draw:
    """One set-up, healthy or with a fault."""

    number: int
    half: Half
    group: Literal["fault", "neutral", "healthy"]
    kind: str
    severity: float
    """In [0, 1), from mild to strong."""
    subset: str
    scene: str
    companion: int
    """An unrelated setting that is other than usual; 0 for none."""

    @property
    def name(self) -> str:
        """Of what is kept of it."""
        return f"draw-{self.number}"

    @property
    def part(self) -> str:
        """Of a fault."""
        return KINDS[self.kind].part if self.group == "fault" else self.group


@cache
def _slots() -> tuple[tuple[str, str], ...]:
    """Groups and kinds of a pass, in an order that is balanced over the parts wherever one stops."""
    faults = [("fault", kind) for kind in KINDS]
    others = [("neutral", kind) for kind in NEUTRAL] + [(HEALTHY, f"{HEALTHY}{n}") for n in range(_HEALTHY_A_ROUND)]
    both = [*faults, *others]
    return tuple(sorted(both, key=lambda one: hashlib.sha256(f"{one}".encode()).digest()))


def draw_of(number: int) -> Draw:
    """The draw of a number: even ones are of the tuning half, odd ones of the reporting half.

    A pass over all kinds takes as many numbers of a half as there are kinds; which quarters of the severity are a
    half's changes from pass to pass, and no scene is in both.
    """
    within = number % PER_SEED
    half, place = HALVES[within % 2], within // 2
    turn, slot = divmod(place, len(_slots()))
    group, kind = _slots()[slot]
    random = generator(number, 0, 0, "draw of the audit's bench")
    scenes = [one for one in SCENES if one.half == half and (group != "fault" or KINDS[kind].fits(one))]
    quarter = 2 * ((turn + slot) % 2) + HALVES.index(half)
    return Draw(
        number=number,
        half=half,
        group="fault" if group == "fault" else "neutral" if group == "neutral" else "healthy",
        kind=kind if group != HEALTHY else HEALTHY,
        severity=round((quarter + float(random.random())) / 4, 4),
        subset=str(random.choice(KINDS[kind].subsets)) if group == "fault" else "all",
        scene=scenes[int(random.integers(len(scenes)))].name,
        companion=0 if random.random() < _ALONE else 1 + int(random.integers(len(_COMPANIONS))),
    )


def draws(seed: int = 0, half: str = "both", only: str | None = None) -> Iterator[Draw]:
    """Draws in their order, without an end for the kinds that there are.

    Args:
        seed: Other seeds are other draws.
        half: `tune`, `report` or `both`.
        only: A kind.
    """
    for number in range(seed * PER_SEED, (seed + 1) * PER_SEED):
        one = draw_of(number)
        if half in ("both", one.half) and only in (None, one.kind):
            yield one


def checked_kind(kind: str | None) -> str | None:
    """A kind of fault, neutral change or `healthy`, or None.

    Raises:
        UserError: There is none of that name.
    """
    known = (*KINDS, *NEUTRAL, HEALTHY)
    if kind is not None and kind not in known:
        close = get_close_matches(kind, known, 3) or sorted(KINDS)
        raise UserError(f"--only {kind!r:.80} is no kind of draw: use one of {', '.join(close)}")
    return kind


def made(
    draw: Draw, sources: tuple[Path, ...] = (), *, plainer: bool = False, kept: Path | None = None
) -> tuple[Bundle, Bundle]:
    """The set-up of a draw, and its healthy twin.

    Args:
        draw: A fault, a neutral change or a healthy set-up.
        sources: Data sets in the competition's layout, for crops; without one, phantoms take their place.
        plainer: As harm is measured on.
        kept: Folder in which drawn volumes are kept.
    """
    random = generator(draw.number, 1, 0, "draw of the audit's bench")
    seed = draw.number // PER_SEED
    source = sources[draw.number // 2 % len(sources)] if sources else None
    if draw.group == "healthy":
        twin = healthy_bundle(draw.half, draw.number, source, random)
        return twin, twin
    scene = next(one for one in SCENES if one.name == draw.scene)
    layers = [] if draw.companion == 0 else [_COMPANIONS[draw.companion - 1]]
    twin = bundle_of(scene, seed, source, *layers, plainer=plainer, kept=kept)
    if draw.group == "neutral":
        return NEUTRAL[draw.kind](twin, draw.severity, range(len(twin.volumes)), random), twin
    return KINDS[draw.kind].act(twin, draw.severity, _chosen(draw, twin, random), random), twin


def _chosen(draw: Draw, bundle: Bundle, random: np.random.Generator) -> list[int]:
    """The volumes that are meant: all, a third of those that are learned from, or one of them."""
    if draw.subset == "all":
        return list(range(len(bundle.volumes)))
    count = 1 if draw.subset == "one" else max(2, round(bundle.training / 3))
    return sorted(int(place) for place in random.permutation(bundle.training)[:count])
