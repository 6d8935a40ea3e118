"""Do labels lie where their images say, or are they shifted, turned, mirrored, or another volume's?"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from volumen.doctor.data.placement import Orientation
from volumen.doctor.data.poses import Pose, Poses, find_poses
from volumen.doctor.data.readings import Numbers
from volumen.doctor.findings import Finding, Severity
from volumen.system.names import some
from volumen.system.output import counted

UNRELATED = 0.08
"""Measured: exchanged labels at most 0.03 in place and 0.055 at any shift, healthy ones 0.22 to 0.47."""
STOPS = 0.3
"""Share of all surface that is lost where labels lie wrong: more than a network can make up for."""
ONE_WAY = 0.3
"""Of the surface that faces a shift, the share that faces away: with less of it, nothing is said of a shift."""
CONVENTION_VOXELS = 5.0
"""By which labels may lie off what shows in the image on purpose."""
AXES = "zyx"


def check_alignment(numbers: Mapping[str, Numbers]) -> Iterator[Finding]:
    """Labels that fit their images better elsewhere, or not at all.

    Args:
        numbers: Of `measure_placement`, by case; volumes for which it found nothing take no part.
    """
    known = {name: one for name, one in numbers.items() if one}
    if not known:
        return
    names, poses = tuple(known), find_poses(tuple(known.values()))
    if poses.shared is None and not poses.single and float(np.median(poses.explained)) < UNRELATED:
        yield _unrelated(poses)
        return
    if poses.shared is not None and not _is_convention(poses, poses.shared):
        yield _all_of_them(poses, poses.shared, names)
    if poses.single:
        yield _some_of_them(poses.single, names)


def _all_of_them(poses: Poses, pose: Pose, names: Sequence[str]) -> Finding:
    lost = (1 - pose.kept) * len(poses.followed) / len(names)
    return Finding(
        code="P7",
        severity=Severity.stop if lost > STOPS else Severity.warn,
        title=f"labels are {'shifted' if pose.orientation is None else 'turned'} against their images",
        evidence=(
            f"in {len(poses.followed)} of {counted(len(names), 'volume')} labels {_lie(pose)}: where they are the "
            f"image's local shape explains {pose.here:.3f} of their variance, where they belong {pose.there:.3f}; "
            f"{1 - pose.kept:.0%} of the surface is labelled beside it"
        ),
        causes=_causes(pose),
        remedies=(_remedy(pose), "look at a slice of image and label"),
        where="train_labels",
    )


def _some_of_them(single: Mapping[int, Pose], names: Sequence[str]) -> Finding:
    lost = sum(1 - pose.kept for pose in single.values()) / len(names)
    worst = sorted(single, key=lambda one: single[one].kept)
    told = [f"{names[one]} {_lies(single[one])} ({single[one].here:.2f} -> {single[one].there:.2f})" for one in worst]
    return Finding(
        code="P7",
        severity=Severity.stop if lost > STOPS else Severity.warn,
        title=f"labels of {counted(len(single), 'volume')} lie elsewhere than those of the rest",
        evidence=(
            f"{'; '.join(told[:6])}{' ...' if len(told) > 6 else ''}; in brackets what a model of the other volumes "
            f"explains of the labels' variance where they are and where they belong; {lost:.0%} of all surface of "
            f"{counted(len(names), 'volume')} is labelled beside it"
        ),
        causes=_causes(single[worst[0]]),
        remedies=(
            f"mend the label files of {some([names[one] for one in worst])}, or leave them out, and prepare again",
            _remedy(single[worst[0]]),
        ),
        where=f"train_labels/{names[worst[0]]}",
    )


def _unrelated(poses: Poses) -> Finding:
    return Finding(
        code="P7",
        severity=Severity.warn,
        title="labels have next to nothing to do with their images",
        evidence=(
            f"over {counted(len(poses.explained), 'volume')} the image's local shape explains "
            f"{float(np.median(poses.explained)):.3f} of the labels' variance; measured on "
            "healthy data sets: 0.2 to 0.9"
        ),
        causes=("labels of other volumes: names that were mixed up", "a scan in which surfaces do not show"),
        remedies=("look at a slice of image and label",),
        where="train_labels",
    )


def _is_convention(poses: Poses, pose: Pose) -> bool:
    """Whether the shift may as well be how labels are meant: next to what shows, in sheets that all face one way."""
    size = np.abs(pose.shift)
    if pose.orientation is not None or np.linalg.norm(size) > CONVENTION_VOXELS:
        return False
    return bool(size @ poses.facing.min(axis=1) < ONE_WAY * (size @ poses.facing.max(axis=1)))


def _lie(pose: Pose) -> str:
    if pose.orientation is not None:
        return f"are {orientation_words(pose.orientation)}"
    size = float(np.linalg.norm(pose.shift))
    return f"lie {size:.1f} +- {pose.error:.1f} voxels off, by {_triple(pose.shift)} (z y x)"


def _lies(pose: Pose) -> str:
    return _lie(pose).replace("are ", "is ", 1).replace("lie ", "lies ", 1)


def _triple(shift: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.1f}" if abs(value) >= 0.05 else "0" for value in shift) + "]"


def _causes(pose: Pose) -> tuple[str, ...]:
    if pose.orientation is not None:
        return ("axes in another order or direction when labels were written", "an augmentation of the image alone")
    return ("another origin or padding of the label files", "an off-by-one crop", "a resampling about corners")


def _remedy(pose: Pose) -> str:
    if pose.orientation is not None:
        return "write the labels with the axes of their images and prepare again"
    return f"move the labels by {_triple([-value for value in pose.shift])} voxels (z y x) and prepare again"


def orientation_words(orientation: Orientation) -> str:
    """How a label has to be called that lies so, such as "mirrored along x" or "rotated by a quarter turn about z"."""
    axes, signs = orientation
    mirrored = [AXES[axis] for axis in range(3) if signs[axis] < 0]
    moved = [axis for axis in range(3) if axes[axis] != axis]
    if not moved:
        rest = [name for name in AXES if name not in mirrored]
        if len(mirrored) == 2:
            return f"rotated by half a turn about {rest[0]}"
        return f"mirrored along {', '.join(mirrored)}" if mirrored else "as they should be"
    if len(moved) == 3:
        order = " ".join(AXES[axes.index(axis)] for axis in range(3))
        return (
            f"stored with the axes {order} for z y x{' and mirrored along ' + ', '.join(mirrored) if mirrored else ''}"
        )
    (third,) = (axis for axis in range(3) if axis not in moved)
    first, second = (AXES[axis] for axis in moved)
    along = f", mirrored along {AXES[third]}" if signs[third] < 0 else ""
    if signs[moved[0]] != signs[moved[1]]:
        way = (first, second) if signs[moved[0]] > 0 else (second, first)
        return f"rotated by a quarter turn about {AXES[third]}, {way[0]} towards {way[1]}{along}"
    both = f", mirrored along {first} and {second}" if signs[moved[0]] < 0 else ""
    return f"stored with {first} and {second} exchanged{both}{along}"
