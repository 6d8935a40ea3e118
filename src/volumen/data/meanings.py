"""`dataset.yaml`: a data set's own word on what its label values mean.

Without it nothing is packed. A guess would be right most of the time, and would cost weeks the one time it is not; so
the values found are shown with a proposal, and a human says yes.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from volumen.data.labels import CODES, NAMES, LabelMeanings
from volumen.errors import UserError

FILE = "dataset.yaml"
PROPOSAL = "dataset.yaml.proposed"
EXAMPLE = "labels: {0: background, 1: surface, 2: ignore}"
KEYS = ("labels", "spacing_um", "description")


def read_meanings(path: Path) -> LabelMeanings:
    """Read and check a `dataset.yaml`.

    Raises:
        UserError: listing everything that is wrong with the file.
    """
    try:
        record = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(record, dict):
        raise UserError(f"{path} must hold a mapping such as\n  {EXAMPLE}")
    problems = [_unknown_key(str(key)) for key in record if key not in KEYS]
    codes = _codes(record.get("labels"), problems)
    spacing = _spacing(record.get("spacing_um"), problems)
    description = record.get("description") or ""
    if not isinstance(description, str):
        problems.append(f"description must be text, got {description!r}")
    if problems:
        listed = "\n  ".join(problems)
        raise UserError(f"{path}:\n  {listed}")
    return LabelMeanings(codes, spacing, description)


def _unknown_key(key: str) -> str:
    close = difflib.get_close_matches(key, KEYS, n=1)
    return f"unknown key {key!r}" + (f": did you mean {close[0]}?" if close else f": known are {', '.join(KEYS)}")


def _codes(labels: Any, problems: list[str]) -> dict[int, int]:
    if not isinstance(labels, dict) or not labels:
        problems.append(f"labels must map each value to its meaning, such as\n    {EXAMPLE}")
        return {}
    codes: dict[int, int] = {}
    for value, name in labels.items():
        if isinstance(value, bool) or not isinstance(value, int):
            problems.append(f"labels: {value!r} is not a whole number: write the value without quotes")
        elif name not in CODES:
            problems.append(f"labels: value {value} means {name!r}, expected one of {', '.join(CODES)}")
        else:
            codes[value] = CODES[name]
    problems.extend(
        f"labels: no value means {name}: declare one"
        for name in ("background", "surface")
        if name not in labels.values()
    )
    return codes


def _spacing(spacing: Any, problems: list[str]) -> tuple[float, float, float] | None:
    if spacing is None:
        return None
    sides = spacing if isinstance(spacing, list) else [spacing] * 3
    numbers = [
        float(side) for side in sides if isinstance(side, (int, float)) and not isinstance(side, bool) and side > 0
    ]
    if len(sides) != 3 or len(numbers) != 3:
        problems.append(f"spacing_um must be one positive number or three (z, y, x) in micrometres, got {spacing!r}")
        return None
    return numbers[0], numbers[1], numbers[2]


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
    return None, f"the values {sorted(values)} are no convention known here: say what each of them means"


def proposal_text(values: Mapping[int, int]) -> str:
    """The text of a proposed `dataset.yaml`; it cannot be loaded unchanged where nothing was proposed."""
    proposal, reason = propose(values)
    total = sum(values.values())
    lines = [
        f"# Proposed by volumen prepare: {reason}.",
        "# Look at a few slices before you save this as dataset.yaml.",
    ]
    lines.append("labels:")
    for value, count in sorted(values.items()):
        meaning = NAMES[proposal.codes[value]] if proposal else "?  # background, surface or ignore"
        separator = "  # " if proposal else ", "
        lines.append(f"  {value}: {meaning}{separator}{count / total:.2%} of all voxels")
    lines.append("# spacing_um: 7.91  # size of a voxel in micrometres, if known")
    return "\n".join(lines) + "\n"
