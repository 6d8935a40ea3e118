"""What mistakes cost on the leaderboard: volumes with one mistake each, their scores, and pictures of them.

python docs/metric_costs.py        # prints the table of docs/metric.md
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from volumen.data.pictures import FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_POSITIVE, Rgb
from volumen.metrics import LeaderboardScore, leaderboard

Mask = NDArray[np.uint8]

SIZE = 128
PERIOD = 32  # voxels from sheet to sheet
THICKNESS = 4
CUT = 40  # y of the cross-section that the pictures show
WINDOW = (slice(8, 60), slice(20, 86))  # z and x of the pictures
BACKGROUND = (24, 26, 31)
ENLARGEMENT = 4


def sheets(first: int = 0, last: int = SIZE // PERIOD) -> Mask:
    """Wavy sheets stacked along z, numbered from `first` to `last` - 1."""
    z, y, x = np.mgrid[:SIZE, :SIZE, :SIZE]
    height = z - np.rint(14 + 3 * np.sin(y / 19) + 2 * np.cos(x / 23))
    mask = (height % PERIOD < THICKNESS) & (height >= PERIOD * first) & (height < PERIOD * last)
    return mask.astype(np.uint8)


def with_holes(mask: Mask, count: int = 24) -> Mask:
    """The same sheets with holes of 5 x 5 voxels in them, as real labels have."""
    holed = mask.copy()
    random = np.random.default_rng(1)
    for sheet in range(SIZE // PERIOD):
        for y, x in random.integers(70, 120, (count // 4, 2)):
            holed[PERIOD * sheet + 4 : PERIOD * sheet + 28, y : y + 5, x : x + 5] = 0
    return holed


def hole(mask: Mask) -> Mask:
    """One hole of 6 x 6 voxels in the second sheet."""
    mask[40:60, CUT - 3 : CUT + 3, 40:46] = 0
    return mask


def bridge(mask: Mask) -> Mask:
    """One bridge of 4 x 4 voxels between the first two sheets."""
    mask[14:50, CUT - 2 : CUT + 2, 44:48] = 1
    return mask


def seam(mask: Mask) -> Mask:
    """The first two sheets fused along 60 voxels: what two touching windings look like."""
    mask[14:50, CUT - 30 : CUT + 30, 44:48] = 1
    return mask


def lost_sheet(mask: Mask) -> Mask:
    """The second of the four sheets is missing."""
    mask[sheets(1, 2) > 0] = 0
    return mask


def cut_sheet(mask: Mask) -> Mask:
    """A gap of 3 voxels right through the second sheet."""
    mask[36:64, :, 43:46] = 0
    return mask


def cavities(mask: Mask, count: int) -> Mask:
    """Bubbles of one voxel inside the second sheet, 7 voxels apart."""
    for number in range(count):
        y, x = CUT - 7 * (number // 5), 40 + 7 * (number % 5)
        (z,) = np.flatnonzero(mask[40:60, y, x])[1:2] + 40
        mask[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = 1
        mask[z, y, x] = 0
    return mask


def specks(mask: Mask) -> Mask:
    """A hundred specks of 2 x 2 x 2 voxels between the first two sheets."""
    for number in range(100):
        y, x = CUT - 20 + 4 * (number // 10), 24 + 8 * (number % 10)
        mask[33:35, y : y + 2, x : x + 2] = 1
    return mask


def thicker(mask: Mask) -> Mask:
    """Every sheet one voxel thicker on both sides."""
    return mask | np.roll(mask, 1, 0) | np.roll(mask, -1, 0)


MISTAKES: dict[str, tuple[str, Callable[[Mask], Mask]]] = {
    "hole": ("one hole of 6 x 6 voxels", hole),
    "bridge": ("one bridge of 4 x 4 voxels between two sheets", bridge),
    "seam": ("two sheets fused along a line of 60 voxels", seam),
    "cut": ("one sheet cut in two by a gap of 3 voxels", cut_sheet),
    "lost": ("one of four sheets lost", lost_sheet),
    "cavity": ("one false cavity of a single voxel", lambda mask: cavities(mask, 1)),
    "cavities": ("ten false cavities", lambda mask: cavities(mask, 10)),
    "specks": ("a hundred specks of 8 voxels", specks),
    "shift-2": ("everything 2 voxels too high", lambda mask: np.roll(mask, 2, 0)),
    "shift-3": ("everything 3 voxels too high", lambda mask: np.roll(mask, 3, 0)),
    "thicker": ("every sheet 1 voxel thicker on both sides", thicker),
}
PICTURED = ("hole", "bridge", "cut", "lost", "cavity", "specks")
PICTURES_A_ROW = 3


@dataclass(frozen=True)
class Cost:
    """What one mistake costs: the score on sheets without a hole, and on the same sheets with holes."""

    name: str
    words: str
    clean: LeaderboardScore
    holed: LeaderboardScore


def costs() -> list[Cost]:
    """Every mistake, made on a perfect prediction of each of the two truths."""
    truths = (sheets(), with_holes(sheets()))
    return [
        Cost(name, words, *(leaderboard(make(truth.copy()), truth) for truth in truths))
        for name, (words, make) in MISTAKES.items()
    ]


def table(found: list[Cost]) -> str:
    """The costs in Markdown."""
    lines = [
        "| mistake | score | topo | F1: components tunnels cavities | surface Dice | VOI | score, truth with holes |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for cost in found:
        score = cost.clean
        f1 = " ".join("–" if value is None else f"{value:.2f}" for value in score.topo.f1)
        parts = f"{score.topo.score:.3f} | {f1} | {score.surface_dice:.3f} | {score.voi.score:.3f}"
        lines.append(f"| {cost.words} | **{score.score:.3f}** | {parts} | {cost.holed.score:.3f} |")
    return "\n".join(lines)


def gallery(found: list[Cost]) -> str:
    """The pictures with their scores, as a table in Markdown."""
    by_name = {cost.name: cost for cost in found}
    lines = []
    for start in range(0, len(PICTURED), PICTURES_A_ROW):
        names = PICTURED[start : start + PICTURES_A_ROW]
        images = [f"![{by_name[name].words}](images/metric-{name}.png)" for name in names]
        captions = [f"{by_name[name].words}: **{by_name[name].clean.score:.3f}**" for name in names]
        lines += [f"| {' | '.join(images)} |"] + ([f"|{' --- |' * PICTURES_A_ROW}"] if start == 0 else [])
        lines += [f"| {' | '.join(captions)} |"]
    return "\n".join(lines)


def picture(name: str) -> Rgb:
    """A cross-section through the mistake: right, invented and missed surface."""
    truth = sheets()
    predicted = MISTAKES[name][1](truth.copy())
    cross_section = (truth[:, CUT][WINDOW] > 0, predicted[:, CUT][WINDOW] > 0)
    colours = np.array([BACKGROUND, FALSE_POSITIVE, FALSE_NEGATIVE, TRUE_POSITIVE], np.uint8)
    pixels = colours[2 * cross_section[0] + cross_section[1]]
    return pixels.repeat(ENLARGEMENT, 0).repeat(ENLARGEMENT, 1)


if __name__ == "__main__":
    print(table(costs()))
