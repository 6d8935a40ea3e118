"""Which axes a file's array has: z, y, x in whatever order, and never a channel or a time that is read as slices."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

SPACE = "ZYX"
UNNAMED = "Q"
_WORDS = {"S": "samples of a colour S", "C": "channels C", "T": "times T"}
_MOST_CHANNELS = 7
"""Of a picture. tifffile calls the slices of a stack channels where nobody named its axes, and a scan has more."""


class AxesError(Exception):
    """An array is no volume of z, y, x; worded to follow the name of what holds it."""

    def __init__(self, found: str, index: str) -> None:
        super().__init__(f"has the axes {found}, expected z, y, x")
        self.index = index
        """What takes the first volume of the array, such as `[0, :, :, :]`; empty where there is none to take."""


def letters_of(names: Sequence[str]) -> str:
    """A letter for each axis, in whatever way it is named; Q for a name that says nothing known."""
    known = {"CHANNEL": "C", "TIME": "T", "I": UNNAMED, "SAMPLE": "S", "SAMPLES": "S"}
    upper = [str(name).strip().upper() for name in names]
    return "".join(known.get(name, name if len(name) == 1 else UNNAMED) for name in upper)


def zyx_order(letters: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Where the axes z, y and x of an array of three axes or more stand; all others have one element.

    `letters` has one for each axis, as `letters_of` gives them.

    Raises:
        AxesError: It has more than z, y, x, or a few channels, times or the like in place of slices.
    """
    wide = [number for number, side in enumerate(shape) if side > 1]
    named = [number for number in range(len(shape)) if number not in wide and letters[number] in SPACE]
    single = [number for number in reversed(range(len(shape))) if number not in (*wide, *named)]
    kept = sorted((*wide, *named, *single)[: max(3, len(wide))])
    foreign = [number for number in kept if letters[number] not in SPACE]
    refused = [
        number
        for number in foreign
        if not (
            letters[number] == UNNAMED
            or shape[number] == 1
            or (letters[number] == "C" and shape[number] > _MOST_CHANNELS)
        )
    ]
    if len(kept) > 3 or refused:
        found = ", ".join(f"{_WORDS.get(letters[number], letters[number].lower())} {shape[number]}" for number in kept)
        space = kept if len(kept) == 3 else [number for number in kept if letters[number] in SPACE]
        space = space if len(space) == 3 else kept[-3:]
        index = ", ".join(":" if number in space else "0" for number in range(len(shape)))
        raise AxesError(found, f"[{index}]" if len(kept) > 3 else "")
    free = [letter for letter in SPACE if letter not in [letters[number] for number in kept]]
    order = [letters[number] if number not in foreign else free.pop(0) for number in kept]
    return tuple(kept[order.index(letter)] for letter in SPACE) if set(order) == set(SPACE) else tuple(kept)


def to_zyx(array: NDArray[Any], letters: str) -> NDArray[Any]:
    """The array [Z, Y, X] as a view; fewer axes than three stay as they are. Raises as `zyx_order`."""
    if array.ndim < 3:
        return array
    order = zyx_order(letters, array.shape)
    rest = [number for number in range(array.ndim) if number not in order]
    return array.transpose([*rest, *order]).reshape([array.shape[number] for number in order])
