"""Test-time augmentation: the same tile seen mirrored and turned, and the answers turned back and averaged."""

from dataclasses import dataclass
from itertools import product

from torch import Tensor

AXES = (2, 3, 4)  # z, y, x of [B, C, Z, Y, X]


@dataclass(frozen=True)
class View:
    """One way to look at a tile: a turn about z, then mirroring."""

    turns: int = 0
    """Quarter turns about z, from y to x."""
    mirrored: tuple[int, ...] = ()
    """Axes of [B, C, Z, Y, X] that are mirrored."""

    def of(self, images: Tensor) -> Tensor:
        """Images [B, C, Z, Y, X] as this view shows them."""
        turned = images.rot90(self.turns, AXES[1:]) if self.turns else images
        return turned.flip(self.mirrored) if self.mirrored else turned

    def undo(self, answers: Tensor) -> Tensor:
        """What the network answers to this view, back in the tile's own place."""
        unflipped = answers.flip(self.mirrored) if self.mirrored else answers
        return unflipped.rot90(-self.turns, AXES[1:]) if self.turns else unflipped


def views(*, mirror: bool, rotate: bool) -> tuple[View, ...]:
    """The views to average over, the plain one first: all eight mirror images, all four quarter turns about z; both are
    sixteen views, as two mirrorings are a half turn.
    """
    flips = [tuple(axis for axis, on in zip(AXES, choice, strict=True) if on) for choice in product((0, 1), repeat=3)]
    if mirror:
        return tuple(View(turns, flip) for turns in ((0, 1) if rotate else (0,)) for flip in flips)
    return tuple(View(turns) for turns in (range(4) if rotate else (0,)))
