"""What a network sees of each volume's grey values, and which volumes are not like the others."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from volumen.data.dataset import Case
from volumen.data.normalise import Method, normalise
from volumen.doctor.context import Context
from volumen.doctor.data.readings import Numbers
from volumen.doctor.findings import Finding, Severity
from volumen.system.output import counted

NOTHING: Mapping[str, float] = {"zscore": 0.05, "percentile": 0.02, "none": 0.01}
"""Standard deviation of what is seen, below which next to nothing is; measured on healthy data sets: 1.0, 0.2, 0.1."""
CRUSHED = 0.5  # of the contrast that the rest would have without hot voxels
SATURATED, CUT_OFF = 0.06, 0.4
"""Share of the voxels at the greatest or least grey value; measured on healthy data sets: at most 0.013 and 0.06, and
0.04 in crops of 48^3 at the brightest places of a scan."""
MOSTLY = 0.3
"""Share of the voxels at the top from which on few grey values are the window's doing."""
SPIKE = 5.0  # times as many as at the next value
COARSE = (4, 16)
"""Grey values in use of a volume that was rounded to next to nothing; fewer are a mask or a drawing, unless other
volumes have many."""
NOISE_OF_A_STEP = 0.5
"""Standard deviation of the noise, in steps, from which on rounding takes away next to nothing (Bennett 1948)."""
TIMES, APART = 4.0, 4.0
"""Factor of the standard deviation, and difference of medians in it, by which a volume is in other units."""
FAR = 2.0  # both again, where a normalisation takes them away: worth knowing
MIRRORED, MIRRORED_FAR = 1.8, 0.05
"""Measured: between volumes of one kind the histogram's mirror image is 1.3 to 30 times as far as the histogram."""
ALIKE, CLEARLY = 0.06, 3.0
"""Distance up to which a mirror image is one of the others', and factor that makes up for more; measured: small crops
of scrolls of other looks are 0.08 to 0.15 from it, and 2.0 to 2.3 times as far from the others themselves."""
SCATTER = 3.0
FEWEST = 3  # volumes that say what is usual
MIDDLE = slice(10, 991)
SHOWN = 4


@dataclass(frozen=True)
class Greys:
    """The grey values of one volume."""

    case: Case
    numbers: Numbers
    method: Method

    @cached_property
    def quantiles(self) -> NDArray[np.float64]:
        """As stored, at 1001 shares from 0 to 1."""
        return np.asarray(self.numbers["quantiles"], dtype=np.float64)

    @cached_property
    def seen(self) -> NDArray[np.float64]:
        """As a network sees them."""
        return np.asarray(self._normalised(self.quantiles), dtype=np.float64)

    @cached_property
    def shape(self) -> NDArray[np.float64]:
        """Quantiles about their median, in units of the range from the 5th to the 95th percentile."""
        middle = self.quantiles[MIDDLE]
        found: NDArray[np.float64] = (middle - self.quantiles[500]) / max(self.quantiles[950] - self.quantiles[50], 1.0)
        return found

    @cached_property
    def left(self) -> float:
        """Share of the contrast that is left beside hot voxels, 1 without any."""
        cool, known = np.asarray(self.numbers["cool"], dtype=np.float64), self.case.statistics
        if not float(self.numbers["hot"]) > 0 or self.method == "none":
            return 1.0
        if self.method == "zscore":
            return float(cool[5:996].std()) / max(known.std, 1e-9)
        return float(cool[995] - cool[5]) / max(known.p99_5 - known.p00_5, 1e-9)

    @cached_property
    def coarse(self) -> bool:
        """Whether few grey values are left, in steps wider than the noise, which otherwise leaves nothing to lose."""
        levels = int(self.numbers["levels"])
        steps = max(levels - 1, 1)
        return (
            COARSE[0] <= levels <= COARSE[1]
            and float(self.numbers["noise"]) < NOISE_OF_A_STEP * float(self.quantiles[995] - self.quantiles[5]) / steps
        )

    def _normalised(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        return normalise(values.astype(self.case.dtype), self.case.statistics, self.method)


def check_grey_values(
    context: Context, greys: Mapping[str, Numbers], upright: Container[str] = ()
) -> Iterator[Finding]:
    """Volumes of which a network sees next to nothing, or something else than of the others.

    Args:
        context: The run.
        greys: Grey values of every volume, by its case.
        upright: Cases whose labels say that their grey values are no negative.
    """
    method = context.config.data.normalisation
    volumes = [Greys(case, greys[case.id], method) for case in context.dataset.cases if case.id in greys]
    volumes = [one for one in volumes if one.quantiles.size and one.quantiles[-1] > one.quantiles[0]]
    where = context.where("data.normalisation")
    crushed = [one for one in volumes if one.left < CRUSHED]
    gone = [one for one in volumes if one not in crushed and _is_gone(one)]
    yield from _gone(gone, method, where, everything=len(gone) == len(volumes))
    yield from _crushed(crushed)
    yield from _clipped(volumes)
    yield from _coarse(volumes)
    usual = [one for one in volumes if one not in crushed and one not in gone]
    inverted = [one for one in _inverted(usual) if one.case.id not in upright]
    yield from _told_inverted(inverted)
    yield from _units([one for one in usual if one not in inverted], method)


def _is_gone(one: Greys) -> bool:
    """Nothing is to be seen of a volume in which there is something to learn."""
    return one.seen.std() < NOTHING[one.method] and (not one.case.has_label or one.case.scanned_surface > 0)


def _gone(volumes: Sequence[Greys], method: Method, where: str, *, everything: bool) -> Iterator[Finding]:
    if not volumes:
        return
    first = volumes[0]
    other = "zscore" if method == "none" else "none"
    yield Finding(
        code="P7",
        severity=Severity.stop if everything and method != "none" else Severity.warn,
        title=f"the network sees next to nothing of {_names(volumes)}",
        evidence=(
            f"normalised by {method}, half of {first.case.id} lies between {first.seen[250]:.3g} and "
            f"{first.seen[750]:.3g}, with a standard deviation of {first.seen.std():.2g}; stored are "
            f"{first.quantiles[0]:g} to {first.quantiles[-1]:g} as {first.case.dtype}"
        ),
        causes=(
            ("values of fewer bits in a larger type",)
            if method == "none"
            else ("nearly all voxels have one grey value: a window that was set wrongly, or a fill",)
        ),
        remedies=(f"data.normalisation: {other}", "export the volumes with a window that fits them, and prepare again"),
        where=where,
    )


def _crushed(volumes: Sequence[Greys]) -> Iterator[Finding]:
    if not volumes:
        return
    worst = min(volumes, key=lambda one: one.left)
    yield Finding(
        code="P7",
        severity=Severity.warn,
        title=f"hot voxels crush the grey values of {_names(volumes)}",
        evidence=(
            f"{worst.case.id}: {100 * float(worst.numbers['hot']):.2g} % of the voxels stand alone above all around "
            f"them, up to {worst.quantiles[-1]:g}; the rest (median {worst.quantiles[500]:g}) has "
            f"{100 * worst.left:.0f} % of the contrast that it would have without them"
        ),
        causes=("defective detector pixels or a faulty reconstruction", "a few values written by another program"),
        remedies=("replace them by the median of their neighbours, or clip the files to their 99th percentile, and "
                  "prepare again",),
        where=_file(worst),
    )  # fmt: skip


def _clipped(volumes: Sequence[Greys]) -> Iterator[Finding]:
    for end, limit, name in ((-1, SATURATED, "most"), (0, CUT_OFF, "least")):
        cut = [
            one
            for one in volumes
            if limit < float(one.numbers[name]) > SPIKE * float(np.asarray(one.numbers["beside"])[end])
            and int(one.numbers["levels"]) > COARSE[0]
        ]
        if not cut:
            continue
        worst = max(cut, key=lambda one: float(one.numbers[name]))
        yield Finding(
            code="P7",
            severity=Severity.warn,
            title=f"grey values are cut off at the {'top' if end else 'bottom'} in {_names(cut)}",
            evidence=(
                f"{worst.case.id}: {100 * float(worst.numbers[name]):.0f} % of the voxels have the value "
                f"{worst.quantiles[end]:g} exactly, {100 * float(np.asarray(worst.numbers['beside'])[end]):.2g} % "
                "the one next to it"
            ),
            causes=("a window that is too narrow for the volume, when it was converted",),
            remedies=("convert the scan again with a wider window, and prepare again",),
            where=_file(worst),
        )


def _coarse(volumes: Sequence[Greys]) -> Iterator[Finding]:
    """Few grey values; of those that a window cut off at the top, that has been said."""
    usual = float(np.median([int(one.numbers["levels"]) for one in volumes])) if volumes else 0.0
    masks = [one for one in volumes if int(one.numbers["levels"]) < COARSE[0] and usual > COARSE[1]]
    coarse = [one for one in volumes if (one.coarse and float(one.numbers["most"]) < MOSTLY) or one in masks]
    if not coarse:
        return
    worst = min(coarse, key=lambda one: int(one.numbers["levels"]))
    others = [int(one.numbers["levels"]) for one in volumes if one not in coarse]
    beside = f"; the others have {min(others)} and more" if others else ""
    yield Finding(
        code="P7",
        severity=Severity.warn,
        title=f"few grey values are left in {_names(coarse)}",
        evidence=f"{worst.case.id} uses {int(worst.numbers['levels'])} grey values{beside}",
        causes=("values were normalised or scaled down, and then rounded to whole numbers",),
        remedies=("convert the scan again, from its own values to 8 or 16 bits", "prepare again"),
        where=_file(worst),
    )


def _inverted(volumes: Sequence[Greys]) -> list[Greys]:
    """Those whose histogram is the mirror image of what is usual in their scroll, or of their scroll elsewhere."""
    found = []
    for one in volumes:
        ours = [other for other in volumes if other is not one and other.case.scroll_id == one.case.scroll_id]
        others = [other for other in volumes if other.case.scroll_id != one.case.scroll_id]
        if any(
            _is_mirrored(one.shape, np.stack([other.shape for other in group]))
            for group in (ours, others)
            if len(group) >= FEWEST
        ):
            found.append(one)
    return found if 3 * len(found) <= len(volumes) else []


def _is_mirrored(shape: NDArray[np.float64], group: NDArray[np.float64]) -> bool:
    """Nearer to the mirror image of what is usual, and farther from it than its like are among themselves."""
    usual = np.median(group, axis=0)
    among = float(np.median(np.abs(group - usual).mean(axis=1)))
    far, mirrored = float(np.abs(shape - usual).mean()), float(np.abs(shape + usual[::-1]).mean())
    lopsided = float(np.abs(usual + usual[::-1]).mean())
    if mirrored > ALIKE and far < CLEARLY * mirrored:
        return False
    return far > max(MIRRORED * mirrored, MIRRORED_FAR, SCATTER * among) and lopsided > MIRRORED_FAR


def _told_inverted(volumes: Sequence[Greys]) -> Iterator[Finding]:
    if not volumes:
        return
    yield Finding(
        code="P7",
        severity=Severity.warn,
        title=f"grey values seem to be inverted in {_names(volumes)}",
        evidence=(
            f"the histogram is nearer to the mirror image of the others' than to theirs; {volumes[0].case.id} has the "
            f"median {volumes[0].quantiles[500]:g} between the percentiles 5 ({volumes[0].quantiles[50]:g}) and 95 "
            f"({volumes[0].quantiles[950]:g})"
        ),
        causes=("a conversion that shows dense as dark",),
        remedies=("look at a slice beside one of another volume; invert the file and prepare again",),
        where=_file(volumes[0]),
    )


def _units(volumes: Sequence[Greys], method: Method) -> Iterator[Finding]:
    """Volumes on another scale than most."""
    if len(volumes) <= FEWEST:
        return
    for is_seen in (True, False):
        rows = [one.seen if is_seen else one.quantiles for one in volumes]
        spreads = np.array([row.std() for row in rows])
        medians = np.array([row[500] for row in rows])
        usual, middle = float(np.median(spreads)), float(np.median(medians))
        limit = 1.0 if is_seen else FAR
        far = np.abs(np.log(np.maximum(spreads, 1e-9) / usual)) > np.log(TIMES * limit)
        far |= np.abs(medians - middle) > APART * limit * np.maximum(usual, 1e-9)
        if not far.any() or 3 * far.sum() > len(volumes):
            continue
        odd = [one for one, is_far in zip(volumes, far, strict=True) if is_far]
        worst = int(np.argmax(far))
        seen = f"as the network sees them (normalised by {method}), " if is_seen else "as stored, "
        yield Finding(
            code="P7",
            severity=Severity.warn if is_seen else Severity.note,
            title=f"grey values are in other units in {_names(odd)}",
            evidence=(
                f"{seen}{volumes[worst].case.id} has the median {medians[worst]:.3g} and standard deviation "
                f"{spreads[worst]:.3g}, the volumes together {middle:.3g} and {usual:.3g}"
                + ("" if is_seen else f"; {method} takes this away")
            ),
            causes=("another type, scale or offset when it was converted",),
            remedies=("data.normalisation: zscore" if is_seen else "nothing, as long as data.normalisation stays",
                      "convert all volumes alike"),
            where=_file(volumes[worst]),
        )  # fmt: skip
        return


def _names(volumes: Sequence[Greys]) -> str:
    if len(volumes) == 1:
        return volumes[0].case.id
    shown = ", ".join(one.case.id for one in volumes[:SHOWN])
    return f"{counted(len(volumes), 'volume')} ({shown}{', ...' if len(volumes) > SHOWN else ''})"


def _file(one: Greys) -> str:
    return one.case.image_source
