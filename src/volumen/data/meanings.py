"""`dataset.yaml`: a data set's own word on what its label values mean.

Without it nothing is packed. A guess would be right most of the time, and would cost weeks the one time it is not; so
the values found are shown with a proposal, and a human says yes.
"""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from volumen.config.base import Section
from volumen.config.load import read_model
from volumen.data.labels import BACKGROUND, CODES, NAMES, OTHERS, SURFACE, WHOLE, LabelMeanings, range_of
from volumen.system.output import counted

FILE = "dataset.yaml"
PROPOSAL = "dataset.yaml.proposed"
LARGEST_SPACING_UM = 1e6
"""A voxel of a metre."""
_MOST = 20  # of anything, in a message
_MOST_LINES = 256  # of a proposal


def _checked_value(text: str) -> str:
    bounds = range_of(text)
    if bounds is None and not WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is not a whole number that a label can hold, a range such as 1-40, or {OTHERS}")
    if bounds is not None and bounds[0] > bounds[1]:
        raise ValueError(f"the range {text} ends before it begins: exchange the two")
    return text


LabelValue = Annotated[str, AfterValidator(_checked_value)]
Meaning = Literal["background", "surface", "ignore"]
SideUm = Annotated[float, Field(gt=0, le=LARGEST_SPACING_UM)]
GreyValue = Annotated[int, Field(gt=-(2**63), lt=2**63)]


class DatasetFile(Section):
    """What stands in a `dataset.yaml`."""

    labels: dict[LabelValue, Meaning]
    """Meaning of each label value, such as {0: background, 1: surface, 2: ignore}."""
    spacing_um: SideUm | tuple[SideUm, SideUm, SideUm] | None = None
    """Size of a voxel in micrometres, one number or z y x."""
    description: str | None = None
    empty: Literal["none"] | GreyValue | tuple[GreyValue, ...] | None = None
    """Grey value that the images have where nothing was scanned, a list of such, or none; found where not said."""

    @field_validator("labels")
    @classmethod
    def _complete(cls, labels: dict[str, str]) -> dict[str, str]:
        for name in ("background", "surface"):
            if name not in labels.values():
                raise ValueError(f"no value means {name}: declare one")
        ranges = {text: bounds for text in labels if text != OTHERS and (bounds := range_of(text))}
        for (text, (low, high)), (other, (first, last)) in combinations(ranges.items(), 2):
            if low <= last and first <= high:
                raise ValueError(f"the ranges {text} and {other} overlap: a value has one meaning")
        return labels


def read_meanings(path: Path) -> LabelMeanings:
    """Read and check a `dataset.yaml`.

    Raises:
        ConfigError: listing everything that is wrong with the file, with its lines.
    """
    file = read_model(DatasetFile, path)
    spacing, empty = file.spacing_um, file.empty
    sides = None if spacing is None else spacing if isinstance(spacing, tuple) else (spacing,) * 3
    values = () if empty == "none" else empty if isinstance(empty, tuple) or empty is None else (empty,)
    return LabelMeanings(
        codes={int(value): CODES[name] for value, name in file.labels.items() if range_of(value) is None},
        spacing_um=sides,
        description=file.description or "",
        empty=None if values is None else tuple(sorted(set(values))),
        ranges={value: CODES[name] for value, name in file.labels.items() if range_of(value) is not None},
    )


def propose(values: Mapping[int, int]) -> tuple[LabelMeanings | None, str]:
    """What the values of all label files suggest.

    Args:
        values: voxels by value, over all files.

    Returns:
        The proposal, None where the values suggest nothing, and the reason in a sentence.
    """
    if set(values) == {0, 1, 2}:
        reason = "the values are exactly 0, 1 and 2, as in the Surface Detection competition, where 2 is unlabelled"
        return LabelMeanings({value: value for value in sorted(NAMES)}), reason
    if len(values) == 2 and min(values) == 0 < values[max(values)] < values[0]:
        reason = (
            f"there are two values, and the rarer, {max(values)}, will be the surface; where 0 also stands for what "
            "nobody looked at, that part has to get a value of its own, declared ignore"
        )
        return LabelMeanings({0: BACKGROUND, max(values): SURFACE}), reason
    listed = ", ".join(map(str, sorted(values)[:_MOST])) + (
        f", ... ({counted(len(values), 'value')})" if len(values) > _MOST else ""
    )
    return None, f"the values {listed} are no convention known here: say what each of them means"


def proposal_text(values: Mapping[int, int]) -> str:
    """The text of a proposed `dataset.yaml`; it cannot be loaded unchanged where nothing was proposed."""
    proposal, reason = propose(values)
    total = sum(values.values())
    lines = [
        f"# Proposed by volumen prepare: {reason}.",
        "# Look at a few slices before you save this as dataset.yaml.",
    ]
    lines.append("labels:")
    for value, count in sorted(values.items())[:_MOST_LINES]:
        meaning = NAMES[proposal.codes[value]] if proposal else "?  # background, surface or ignore"
        separator = "  # " if proposal else ", "
        lines.append(f"  {value}: {meaning}{separator}{count / total:.2%} of all voxels")
    if len(values) > _MOST_LINES:
        lines.append(f"  # and {len(values) - _MOST_LINES} more: are these labels, or images?")
    if proposal is None and len(values) > len(NAMES):
        lines.append(f"  # sheets that were numbered: a range such as 1-40: surface, or {OTHERS}: surface")
    lines.append("# spacing_um: 7.91  # size of a voxel in micrometres, if known")
    lines.append("# empty: 0  # grey value where nothing was scanned, a list of such, or none; found where not said")
    return "\n".join(lines) + "\n"
