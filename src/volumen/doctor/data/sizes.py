"""Volumes of another voxel size, or with one axis sampled otherwise.

Bounds were chosen on drawn sheets and balls, on phantoms of three scrolls and on crops of real scans: one or two of six
volumes scaled by 0.5 to 3, or along one axis by 0.5 to 0.7, against healthy sets of all kinds.
"""

from volumen.doctor.data.sights import (
    FEWEST_SURFACE,
    Sight,
    fineness,
    log_odds,
    log_thickness,
    others_say,
    thickness_differs,
    unevenness,
)

FIRM = 0.03
"""Added to what other volumes scatter by, which is next to nothing where they were drawn alike."""

TURNED = 0.75
"""Share of an axis's change by which another one changes where sheets face another way; of longer voxels it is half."""


def is_other_size(sight: Sight) -> bool:
    """Finer and thinner, or coarser and thicker, than elsewhere."""
    fine, thick = sight.apart(fineness), sight.apart(log_thickness)
    told = sight.mine.surface >= FEWEST_SURFACE and ((fine > 0.6 and thick < -0.12) or (fine < -0.8 and thick > 0.15))
    return told or _is_smaller(sight)


def _is_smaller(sight: Sight) -> bool:
    """Thinner sheets at the same share of surface, and less like the others: thinned labels lose their share."""
    alike = abs(sight.apart(log_odds)) < 0.35
    thinner = sight.apart(log_thickness) < 0 and thickness_differs(sight, 0.2)
    return alike and thinner and _likeness(sight) < 0.85 and _enough(sight)


def is_uneven(sight: Sight) -> bool:
    """One axis is finer or coarser than it is in any other volume."""
    apart, axis = max((abs(sight.apart(unevenness(axis))), axis) for axis in range(3))
    from_usual = [abs(unevenness(one)(sight.mine) - sight.usual(unevenness(one))) for one in range(3)]
    alone = max(away for one, away in enumerate(from_usual) if one != axis) < TURNED * from_usual[axis]
    if apart > 1.5 and from_usual[axis] > 2.0 and alone and abs(sight.apart(log_thickness)) < 0.6:
        return True
    firm = max(abs(sight.apart(unevenness(one))) / (sight.scatter(unevenness(one)) + FIRM) for one in range(3))
    thick, like = sight.apart(log_thickness), _likeness(sight)
    squeezed = thick < -0.17 and abs(sight.apart(log_odds)) < 0.35 and like < 0.98 and firm > 3.5
    return _enough(sight) and (squeezed or (firm > 4 and like < 0.75 and thick < -0.05))


def is_far_blurred(sight: Sight) -> bool:
    """Much more blurred than any volume of another scan would be."""
    return sight.apart(fineness) < -1.9


def _enough(sight: Sight) -> bool:
    return sight.several and sight.mine.surface >= FEWEST_SURFACE / 2


def _likeness(sight: Sight) -> float:
    """Agreement with the other volumes' model beside what is usual."""
    usual = sight.usual(others_say)
    return sight.mine.others / usual if usual > 0 else 1.0
