"""What a volume can be told by from the others of its data set: kinds of outliers, the gravest first.

A law compares a volume's portrait with those of the others. Its bounds were chosen on phantoms, on drawn sheets, shells
and balls, and on simulated scans: faults in one to three volumes against none.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from volumen.doctor.data.sights import (
    FEWEST_SURFACE,
    FEWEST_TO_TURN,
    Number,
    Sight,
    constant,
    far,
    fineness,
    grey,
    labelled,
    log_odds,
    log_thickness,
    lookalike,
    negative,
    noise,
    others_say,
    own,
    share,
    thickness,
    thickness_differs,
    unevenness,
)
from volumen.doctor.data.sizes import is_far_blurred, is_other_size, is_uneven
from volumen.doctor.findings import Severity

AS_MUCH = 0.92
"""Of the others' agreement with their common model, from which on a label is as right as theirs; measured: 0.93 and 1.0
in solid cells twice as thick as the others'."""
PLAINLY = 0.6
"""Correlation of label and grey values that needs no other volumes; measured: up to 0.5 in single crops of scans."""


@dataclass(frozen=True)
class Law:
    """A kind of outlier."""

    code: str
    severity: Severity
    title: str
    """After `2 volumes: `."""
    holds: Callable[[Sight], bool]
    shown: tuple[tuple[str, Number, str], ...]
    """Name, number and format of the evidence."""
    causes: tuple[str, ...]
    remedy: str


def _nothing(sight: Sight) -> bool:
    """Next to no surface where almost every other volume has some, in an image as fine as theirs."""
    having = sum(one.surface > 0 for one in sight.others) / len(sight.others)
    none = sight.mine.surface == 0 or (len(sight.others) >= FEWEST_TO_TURN and sight.apart(log_odds) < -2.3)
    return none and sight.mine.labelled > 0 and having >= 0.8 and abs(sight.apart(fineness)) < 0.5


def _dead(sight: Sight) -> bool:
    """Parts of one value, or of noise beside what is none: a volume that is noisy all over is another matter."""
    held = sight.mine.constant > 0.05 and sight.usual(constant) < 0.025
    return held or (0.2 < sight.mine.noise < 0.9 and sight.usual(noise) < 0.05 and sight.mine.alive > 0.45)


def _wrong_class(sight: Sight) -> bool:
    """Far more surface than elsewhere, in bodies: thick sheets alone are another matter."""
    much = sight.apart(log_odds) > 0.8 and sight.mine.share > 0.35
    turned = sight.mine.others < 0 and sight.mine.others < sight.usual(others_say) / 2
    thick = sight.apart(log_thickness)
    return (much and (turned or (thick > 0.2 and sight.mine.own < 0.8 * sight.usual(own)))) or (thick > 0.6 and turned)


def _unlabelled_taken(sight: Sight) -> bool:
    """Everything is labelled, while elsewhere a part is not, and what became background looks like surface."""
    missing = sight.mine.lookalike > max(3 * sight.usual(lookalike), 0.02) or sight.mine.own < 0.85 * sight.usual(own)
    return sight.mine.labelled > 0.97 and sight.apart(labelled) > 0.15 and missing and sight.apart(log_odds) < -0.3


def _threshold(sight: Sight) -> bool:
    """The label is what its image's grey values say, where the others' labels are not."""
    enough = sight.several or abs(sight.mine.grey) > PLAINLY
    near = sight.mine.far < 0.5 * sight.usual(far) + 0.01
    return enough and near and abs(sight.mine.grey) > 0.45 and abs(sight.apart(grey)) > 0.2


def _negative(sight: Sight) -> bool:
    told = [one for one in sight.others if np.isfinite(one.others)]
    healthy = sum(one.others > one.negative for one in told)
    turned = sight.mine.negative - sight.mine.others
    usual = sight.usual(others_say)
    as_good = sight.mine.negative > max(0.25, 0.65 * usual) and sight.mine.others < 0.65 * usual
    return len(told) + 1 >= FEWEST_TO_TURN and healthy > 0.6 * len(told) and turned > 0.08 and as_good


def _unrelated(sight: Sight) -> bool:
    own_low = not sight.mine.own > 0.35 or sight.mine.own < 0.4 * sight.usual(own)
    low = sight.mine.others < 0.15 and sight.mine.others < 0.4 * sight.usual(others_say)
    return bool(own_low and low and sight.usual(own) > 0.3 and not sight.apart(fineness) > 1.0)


def _backed(sight: Sight) -> bool:
    """The image says that the label is right: things differ in size.

    What is drawn too thick or too thin agrees less with the other volumes' model than their own labels do.
    """
    usual = sight.usual(others_say)
    return sight.mine.others > min(max(0.75, usual - 0.1), AS_MUCH * usual)


def _thick(sight: Sight) -> bool:
    thicker = sight.apart(log_thickness) > 2.5 * sight.scatter(log_thickness)
    return not _backed(sight) and thicker and thickness_differs(sight, 0.25) and sight.apart(log_odds) > 0.15


def _thin(sight: Sight) -> bool:
    """As by an erosion; a volume at the edge of which a sheet shows has little more than less surface."""
    if sight.apart(log_odds) < 3.5 * sight.apart(log_thickness):
        return False
    thinner = sight.apart(log_thickness) < 0 and thickness_differs(sight, 0.2)
    return not _backed(sight) and thinner and sight.apart(log_odds) < -0.4


def _missing(sight: Sight) -> bool:
    """Background away from the surface that looks like it."""
    plain = sight.mine.lookalike > 0.18 and sight.apart(lookalike) > 0.15
    less = sight.apart(log_odds) < -0.4 and sight.mine.own < 0.7 * sight.usual(own)
    enough = sight.mine.surface >= FEWEST_SURFACE / (1 if sight.apart(log_odds) > -1.2 else 3)
    return (
        enough
        and sight.several
        and sight.mine.lookalike > 4 * sight.usual(lookalike)
        and (plain or (less and sight.mine.lookalike > 0.04))
    )


def _less_alike(sight: Sight) -> bool:
    """Label and image agree much less than elsewhere; healthy volumes keep 0.6 of the agreement with the others."""
    own_low = sight.mine.own < 0.63 * sight.usual(own)
    return own_low and sight.mine.others < 0.5 * sight.usual(others_say) and sight.several


def _hidden(sight: Sight) -> bool:
    return _less_alike(sight) and sight.apart(fineness) > 0.5


def _share(sight: Sight) -> bool:
    enough = sight.mine.surface >= FEWEST_SURFACE * max(sight.mine.share, 0.1) * 10
    return enough and abs(sight.apart(log_odds)) > 1.2


def _noisy(sight: Sight) -> bool:
    return sight.apart(fineness) > 1.0


def _blurred(sight: Sight) -> bool:
    return sight.apart(fineness) < -1.2


LOOK = "look at a slice of image and label: volumen audit CONFIG --only {code} --pictures FOLDER"
_SHARE = ("surface among the labelled", share, "{:.1%}")
_THICKNESS = ("thickness in voxels", thickness, "{:.1f}")
_OTHERS = ("agreement with the other volumes' model", others_say, "{:.2f}")
_FINENESS = ("fineness (logarithm)", fineness, "{:.1f}")

LAWS: tuple[Law, ...] = (
    Law(
        "P7",
        Severity.warn,
        "next to no surface, in an image like the others'",
        _nothing,
        (_SHARE,),
        ("the label file is empty, or its values are others than dataset.yaml says",),
        "label it, or remove it from the data set",
    ),
    Law(
        "P7",
        Severity.warn,
        "a part of the image is constant or noise, and labelled",
        _dead,
        (("constant part", constant, "{:.0%}"), ("part of noise", noise, "{:.0%}")),
        ("an export or a transfer that was cut off", "padding"),
        "export the image again, or mark that part as ignore",
    ),
    Law(
        "P1",
        Severity.warn,
        "what is labelled surface is another class than elsewhere",
        _wrong_class,
        (_SHARE, _THICKNESS, _OTHERS),
        ("label files with other values (surface and background exchanged, unlabelled taken for surface)",),
        "write these label files with the values that dataset.yaml declares, and prepare again",
    ),
    Law(
        "P1",
        Severity.warn,
        "what elsewhere is unlabelled is background",
        _unlabelled_taken,
        (
            ("labelled part", labelled, "{:.0%}"),
            _SHARE,
            ("lookalikes in the background per voxel of surface", lookalike, "{:.2f}"),
        ),
        ("the value for unlabelled was written as background",),
        "write unlabelled voxels as ignore, and prepare again",
    ),
    Law(
        "P7",
        Severity.warn,
        "another voxel size than the others'",
        is_other_size,
        (_THICKNESS, _FINENESS),
        ("image and label were scaled", "a scan of another resolution"),
        "bring them to one voxel size, or train without them",
    ),
    Law(
        "P7",
        Severity.warn,
        "far more blurred than the others",
        is_far_blurred,
        (_FINENESS,),
        ("an enlarged or a smoothed image", "a scan of another resolution"),
        "bring them to one voxel size, or train without them",
    ),
    Law(
        "P7",
        Severity.warn,
        "one axis is sampled otherwise than the two others",
        is_uneven,
        (
            ("fineness of z against y, x", unevenness(0), "{:.1f}"),
            ("of y", unevenness(1), "{:.1f}"),
            ("of x", unevenness(2), "{:.1f}"),
        ),
        ("voxels that are longer along one axis",),
        "resample to cubic voxels, and prepare again",
    ),
    Law(
        "P7",
        Severity.warn,
        "the label is a threshold of the image",
        _threshold,
        (("correlation of label and grey value", grey, "{:.2f}"), _SHARE),
        ("a mask in place of the label",),
        "put the real labels in place, or leave these volumes out",
    ),
    Law(
        "P7",
        Severity.warn,
        "grey values are the negative of the others'",
        _negative,
        (_OTHERS, ("of the image's negative", negative, "{:.2f}")),
        ("black and white were exchanged in the export",),
        "invert these images, and prepare again",
    ),
    Law(
        "P7",
        Severity.warn,
        "label and image have next to nothing to do with each other",
        _unrelated,
        (("agreement with its own model", own, "{:.2f}"), _OTHERS),
        ("labels of other volumes: names that were mixed up", "labels shifted or mirrored"),
        LOOK,
    ),
    Law(
        "P7",
        Severity.warn,
        "much of what looks like surface is labelled background",
        _missing,
        (("lookalikes in the background per voxel of surface", lookalike, "{:.2f}"), _SHARE),
        ("sheets that nobody labelled",),
        "volumen audit places CONFIG shows where; label them, or mark them as ignore",
    ),
    Law(
        "P7",
        Severity.warn,
        "surface is drawn thicker than elsewhere",
        _thick,
        (_THICKNESS, _SHARE),
        ("another annotator or tool", "labels that were dilated"),
        "draw surfaces equally thick: erode these labels, and prepare again",
    ),
    Law(
        "P7",
        Severity.warn,
        "surface is drawn thinner than elsewhere",
        _thin,
        (_THICKNESS, _SHARE),
        ("another annotator or tool", "labels that were eroded or scaled"),
        "draw surfaces equally thick: dilate these labels, and prepare again",
    ),
    Law(
        "P7",
        Severity.warn,
        "surface is not to be seen in an image that is noisier than elsewhere",
        _hidden,
        (("agreement with its own model", own, "{:.2f}"), _FINENESS),
        ("much of the image is noise: an export that failed", "another scan or reconstruction"),
        "export the image again, or leave it out",
    ),
    Law(
        "P7",
        Severity.warn,
        "label and image agree much less than elsewhere",
        _less_alike,
        (("agreement with its own model", own, "{:.2f}"), _OTHERS),
        ("labels shifted, mirrored or of another volume", "labels of another annotator or tool"),
        LOOK,
    ),
    Law(
        "P7",
        Severity.note,
        "another share of surface than elsewhere",
        _share,
        (_SHARE,),
        ("other parts were labelled",),
        LOOK,
    ),
    Law(
        "P7", Severity.note, "noisier than the others", _noisy, (_FINENESS,), ("another scan or reconstruction",), LOOK
    ),
    Law(
        "P7",
        Severity.note,
        "more blurred than the others",
        _blurred,
        (_FINENESS,),
        ("a smoothed or enlarged image",),
        LOOK,
    ),
)
