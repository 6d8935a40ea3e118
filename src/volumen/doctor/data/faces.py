"""Do two volumes continue each other, as neighbouring crops of one scan do? Then they are of one scroll."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from volumen.data.dataset import Case
from volumen.doctor.context import Context
from volumen.doctor.data.readings import Measure, Numbers, Seen
from volumen.doctor.findings import Finding, Severity
from volumen.system.output import counted

SIDE = 48
"""Samples along each axis of a face."""
COARSE = 5.0  # samples: what is smoother than that does not count
CONTINUES = 0.75
"""Correlation of two faces from which one volume goes on in the other; measured: 0.89 and more between neighbours, 0.81
under noise of 25 grey levels, at most 0.54 between volumes of one scroll."""
VARIED = 12.0
"""Frequencies that share a face's power; a stack of even sheets has 3 to 9, and goes on in any other one."""
LEAST = 32  # voxels along the axes of a face
AXES = "zyx"


def faces_of(seen: Seen) -> Numbers:
    """The first and last layers along each axis, without what is smooth, of unit length, int8 [3, 2, 48, 48].

    All 0 for a face of which the scan does not fill every voxel, that is too small, or that repeats itself.
    """
    found = np.zeros((3, 2, SIDE, SIDE), dtype=np.int8)
    values = () if seen.case.empty is None else seen.case.empty.values
    for axis in range(3):
        for end in range(2):
            layer = np.take(seen.image, -end, axis=axis)
            if min(layer.shape) >= LEAST and not np.isin(layer, values).any():
                found[axis, end] = _print(layer)
    return {"faces": found, "shape": np.array(seen.image.shape)}


FACES = Measure("faces", 1, faces_of)


def _print(layer: NDArray[np.generic]) -> NDArray[np.int8]:
    grey = ndimage.gaussian_filter(layer.astype(np.float32), [max(length / SIDE / 2, 0.8) for length in layer.shape])
    rows, columns = (np.linspace(0, length - 1, SIDE) for length in layer.shape)
    grid = np.meshgrid(rows, columns, indexing="ij")
    sampled = ndimage.map_coordinates(grey, grid, order=1)
    sampled = sampled - ndimage.gaussian_filter(sampled, COARSE)
    sampled -= sampled.mean()
    power = np.abs(np.fft.rfft2(sampled)) ** 2
    if not power.sum() ** 2 > VARIED * (power**2).sum():
        return np.zeros((SIDE, SIDE), dtype=np.int8)
    scaled = sampled / np.linalg.norm(sampled) * 127 * SIDE / 4
    return np.asarray(np.clip(np.rint(scaled), -127, 127), dtype=np.int8)


def continuations(faces: Sequence[Numbers]) -> list[tuple[int, int, int, float]]:
    """Pairs (one, other, axis, correlation) in which the other volume begins where the one ends along the axis."""
    found = []
    for axis in range(3):
        ends, starts = (_unit([np.asarray(one["faces"])[axis, end] for one in faces]) for end in (1, 0))
        across = np.array([np.delete(np.asarray(one["shape"]), axis) for one in faces])
        likeness = ends @ starts.T
        alike = (likeness > CONTINUES) & (across[:, None] == across[None]).all(axis=2)
        np.fill_diagonal(alike, False)
        found += [(a, b, axis, float(likeness[a, b])) for a, b in np.argwhere(alike).tolist()]
    return found


def check_continuations(context: Context, faces: Mapping[str, Numbers]) -> Iterator[Finding]:
    """Neighbours in one scan that have different scrolls.

    Args:
        context: The run.
        faces: Of every volume, by its case.
    """
    cases: list[Case] = [case for case in context.dataset.labelled if case.id in faces]
    torn = [
        (cases[one], cases[other], axis, likeness)
        for one, other, axis, likeness in continuations([faces[case.id] for case in cases])
        if cases[one].scroll_id != cases[other].scroll_id
    ]
    if not torn:
        return
    one, other, axis, likeness = max(torn, key=lambda pair: pair[3])
    yield Finding(
        code="P7",
        severity=Severity.warn,
        title=f"volumes of one scan have different scrolls: {one.id} and {other.id}",
        evidence=(
            f"{other.id} (scroll {other.scroll_id}) begins along {AXES[axis]} where {one.id} (scroll {one.scroll_id}) "
            f"ends: these faces correlate by {likeness:.2f}; {counted(len(torn), 'pair')} of this kind"
        ),
        causes=("each volume was given a scroll_id of its own", "ids that were mixed up"),
        remedies=("give all crops of a scan one scroll_id in train.csv, then volumen prepare and volumen folds "
                  "PREPARED --by scroll",),
        where="train.csv",
    )  # fmt: skip


def _unit(faces: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
    rows = np.stack([face.ravel() for face in faces]).astype(np.float32)
    found: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return found
