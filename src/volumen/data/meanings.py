"""`dataset.yaml`: a data set's own word on what its label values mean.

Without it nothing is packed. A guess would be right most of the time, and would cost weeks the one time it is not; so
the values found are shown with a proposal, and a human says yes.
"""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from volumen.config.describe import short_text
from volumen.config.problems import Problem
from volumen.config.source import read_tree
from volumen.data.emptiness import Declared
from volumen.data.labels import BACKGROUND, CODES, NAMES, OTHERS, SURFACE, WHOLE, LabelMeanings, range_of
from volumen.errors import UserError
from volumen.system.output import counted

FILE = "dataset.yaml"
PROPOSAL = "dataset.yaml.proposed"
EXAMPLE = "labels: {0: background, 1: surface, 2: ignore}"
KEYS = ("labels", "spacing_um", "description", "empty")
LARGEST_SPACING_UM = 1e6
"""A voxel of a metre."""
_MOST = 20  # of anything, in a message
_MOST_LINES = 256  # of a proposal


def read_meanings(path: Path) -> LabelMeanings:
    """Read and check a `dataset.yaml`.

    Raises:
        UserError: listing everything that is wrong with the file.
    """
    found: list[Problem] = []
    tree = read_tree(path, path.name, found)
    problems = [str(problem) for problem in found]
    meanings = LabelMeanings({})
    if tree is not None and isinstance(record := tree.plain(), dict):
        problems += [_unknown_key(key) for key in record if key not in KEYS]
        codes, ranges = _codes(record.get("labels"), problems)
        description = record.get("description") or ""
        if not isinstance(description, str):
            problems.append(f"description must be text, got {short_text(description)}")
        spacing, empty = _spacing(record.get("spacing_um"), problems), _empty(record.get("empty"), problems)
        meanings = LabelMeanings(codes, spacing, str(description), empty, ranges)
    elif tree is not None:
        problems.append(f"expected a mapping such as {EXAMPLE}, got {short_text(tree.plain())}")
    if problems:
        listed = problems[0] if len(problems) == 1 else "\n  ".join(["", *problems[:_MOST]])
        raise UserError(f"{path}: {listed}")
    return meanings


def _unknown_key(key: str) -> str:
    close = difflib.get_close_matches(key, KEYS, n=1)
    return f"unknown key {short_text(key)}" + (
        f": did you mean {close[0]}?" if close else f": known are {', '.join(KEYS)}"
    )


def _codes(labels: Any, problems: list[str]) -> tuple[dict[int, int], dict[str, int]]:
    """Codes by value, and by range."""
    if not isinstance(labels, dict) or not labels:
        problems.append(f"labels must map each value to its meaning, such as {EXAMPLE}")
        return {}, {}
    codes: dict[int, int] = {}
    ranges: dict[str, int] = {}
    for value, name in labels.items():
        bounds = range_of(value)
        if bounds is None and not WHOLE.fullmatch(value):
            problems.append(
                f"labels: {short_text(value)} is not a whole number that a label can hold, a range such as 1-40, or "
                f"{OTHERS}"
            )
        elif not isinstance(name, str) or name not in CODES:
            problems.append(f"labels: value {value} means {short_text(name)}, expected one of {', '.join(CODES)}")
        elif bounds is None:
            codes[int(value)] = CODES[name]
        else:
            ranges[value] = CODES[name]
            problems += _range_problems(value, bounds, [other for other in ranges if other != value])
    problems.extend(
        f"labels: no value means {name}: declare one"
        for name in ("background", "surface")
        if name not in labels.values()
    )
    return codes, ranges


def _range_problems(text: str, bounds: tuple[int, int], others: list[str]) -> Iterator[str]:
    low, high = bounds
    if low > high:
        yield f"labels: the range {text} ends before it begins"
    for other in others:
        first, last = range_of(other) or (0, -1)
        if OTHERS not in (text, other) and low <= last and first <= high:
            yield f"labels: the ranges {other} and {text} overlap"


def _spacing(spacing: Any, problems: list[str]) -> tuple[float, float, float] | None:
    if spacing is None:
        return None
    sides = spacing if isinstance(spacing, list) else [spacing] * 3
    numbers = [
        float(side)
        for side in sides
        if isinstance(side, (int, float)) and not isinstance(side, bool) and 0 < side <= LARGEST_SPACING_UM
    ]
    if len(sides) != 3 or len(numbers) != 3:
        problems.append(
            f"spacing_um must be one positive number or three (z, y, x) in micrometres, up to {LARGEST_SPACING_UM:g}, "
            f"got {short_text(spacing)}"
        )
        return None
    return numbers[0], numbers[1], numbers[2]


def _empty(values: Any, problems: list[str]) -> Declared:
    if values is None:
        return None
    listed = [] if values == "none" else values if isinstance(values, list) else [values]
    wrong = [value for value in listed if type(value) is not int or abs(value) >= 2**63]
    if wrong:
        problems.append(
            "empty must be a grey value that the images have where nothing was scanned, a list of such, or none, got "
            f"{short_text(values)}: leave it out, and they are found"
        )
        return None
    return tuple(sorted(set(listed)))


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
