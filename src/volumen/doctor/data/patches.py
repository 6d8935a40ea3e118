"""P7: do the run's patches hold what is to be learnt, and does its augmentation leave it there?"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from volumen.data.augment import STILL, vary
from volumen.data.labels import IGNORE, SURFACE
from volumen.data.normalise import normalise
from volumen.data.sampling import PatchDataset
from volumen.doctor.context import Context
from volumen.doctor.data.readings import Measure, Numbers, Seen, read_volumes
from volumen.doctor.findings import Finding, Severity
from volumen.doctor.settings.course import steps_of

DRAWS = 100
PADDED = 0.3
"""Share of a patch beyond the volumes from which on it is too large for them."""
FEW_SURFACE = 0.25
"""Least share of patches with surface in them."""
SHEETS_A_SIDE = 0.75
"""Least side of a patch, in spacings of the sheets."""
SEES, HARDLY_A_SHEET = 16, 0.5
"""Side from which on a network learns of single sheets, unless it is less than half of their spacing."""
VARIED, VARIED_SIDE, VARIED_VOXELS, VARIED_SCALES = 24, 32, 2000, (1.0, 2.0, 3.0)
LEFT, ALMOST_NOTHING = 0.8, 0.3
"""Share of what the image says of its labels that must be left; measured: the default leaves 0.99, gamma of
0.05 to 20 0.7, noise of 5 deviations 0.54, magnification by 4 0.6, reduction to a quarter 0.13."""
SAYS = 0.2
"""Correlation of the labels with what the model says of unvaried images, below which nothing is said."""


def _count_sheets(seen: Seen) -> Numbers:
    """How often lines along each axis enter a surface, [3], and the labelled voxels."""
    surface, known = seen.label == SURFACE, seen.label != IGNORE
    entries = []
    for axis in range(3):
        ahead, behind = [slice(None)] * 3, [slice(None)] * 3
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        before, after = tuple(behind), tuple(ahead)
        entries.append(np.count_nonzero(surface[after] & ~surface[before] & known[before]))
    return {"entries": np.array(entries), "known": np.array(np.count_nonzero(known))}


SHEETS = Measure("sheets", 1, _count_sheets)


def spacing_of(entries: NDArray[np.generic], known: int) -> float:
    """Voxels from one sheet to the next, whatever their direction.

    A line along an axis enters parallel sheets of spacing d and normal n |n_axis| / d times a voxel, so the squares of
    the three frequencies add up to 1 / d^2; of normals in all directions it is 1.15 d.
    """
    frequency = np.linalg.norm(np.asarray(entries, float) / max(known, 1))
    return float(1 / frequency) if frequency > 0 else np.inf


def check_patches(context: Context) -> Iterator[Finding]:
    """The first of what is wrong with the patches: the rest follows from it."""
    for law in (_too_large, _without_surface, _too_small, _too_few):
        found = list(law(context))
        yield from found
        if found:
            return
    yield from _augmented(context)


def _too_large(context: Context) -> Iterator[Finding]:
    patch = np.array(context.config.data.patch)
    shapes = np.array([context.dataset.case(name).shape for name in context.training])
    inside = float(np.mean(np.prod(np.minimum(shapes / patch, 1), axis=1)))
    if inside < 1 - PADDED and bool(np.any(np.all(patch > shapes, axis=0))):
        best = [int(side) // context.config.divisor * context.config.divisor for side in shapes.min(axis=0)]
        fits = f"data.patch: {best}" if min(best) >= 8 else "a network of less depth, and a smaller data.patch"
        yield _found(
            context,
            "data.patch",
            "the patch is larger than the volumes",
            f"{patch.tolist()} against volumes of {shapes.max(axis=0).tolist()} at most: {1 - inside:.0%} of a "
            "patch is border that is filled in and ignored",
            fits,
            ("a patch meant for larger volumes",),
            Severity.stop if inside < 0.1 else Severity.warn,
        )


def _without_surface(context: Context) -> Iterator[Finding]:
    patches = context.patches
    if context.config.data.sampling.surface_share > FEW_SURFACE:
        return
    held, size = 0, context.config.data.patch
    draws = [patches.draw(0, index) for index in range(min(DRAWS, len(patches)))]
    for draw in draws:
        inner = tuple(slice(max(first, 0), first + side) for first, side in zip(draw.origin, size, strict=True))
        held += bool(np.any(context.dataset.lesson(patches.case_ids[draw.case])[inner] == SURFACE))
    if held < FEW_SURFACE * len(draws):
        yield _found(
            context,
            "data.sampling.surface_share",
            "most patches hold no surface",
            f"{held} of {len(draws)} drawn patches hold any; surface is {context.prior:.2%} of what is labelled",
            "data.sampling.surface_share: 0.67",
            ("patches are drawn anywhere, and surface is rare",),
        )


def _too_small(context: Context) -> Iterator[Finding]:
    numbers = [one[SHEETS.name] for one in read_volumes(context, (SHEETS,)).values()]
    entries = np.sum([one["entries"] for one in numbers], axis=0)
    spacing = spacing_of(entries, int(sum(int(one["known"]) for one in numbers)))
    side = min(context.config.data.patch)
    if side < SHEETS_A_SIDE * spacing and side <= SEES:
        sheets = context.prior * spacing < side / 4  # mean thickness; what is thicker is solid
        little = side < SEES or (sheets and side < HARDLY_A_SHEET * spacing)
        yield _found(
            context,
            "data.patch",
            "the patch is smaller than the distance from sheet to sheet",
            f"its least side is {side} voxels, the sheets lie {spacing:.0f} voxels apart: a network never sees two of "
            "them, nor what lies between",
            f"data.patch: {[max(32, 2 * context.config.divisor)] * 3} or more",
            ("a patch cut down to save time",),
            Severity.warn if little else Severity.note,
        )


def _too_few(context: Context) -> Iterator[Finding]:
    patches = steps_of(context.config) * context.config.data.batch
    if patches < len(context.training):
        yield _found(
            context,
            "data.sampling.patches_per_epoch",
            "the whole run draws fewer patches than there are volumes",
            f"{patches} patches in all, {len(context.training)} training volumes: some are never seen",
            "data.sampling.patches_per_epoch: 200",
            ("an epoch meant for a try",),
        )


def _augmented(context: Context) -> Iterator[Finding]:
    left = measure_left(context)
    if left is not None and left < LEFT:
        yield _found(
            context,
            "data.augmentation",
            "augmentation takes from the images what their labels are known by",
            f"a linear model on edges and brightness, fitted to {VARIED} patches as the run varies them, finds "
            f"{max(left, 0):.0%} of the correlation with the labels that it finds when fitted to unvaried ones",
            f"{_harshest(context)} at its default",
            ("strength or probability far above the usual ones",),
            Severity.stop if left < ALMOST_NOTHING else Severity.warn,
        )


def measure_left(context: Context) -> float | None:
    """What a model learns of varied patches, against unvaried ones, as the ratio of what both explain of unvaried ones.

    None where the unvaried image says too little of its label.
    """
    side = VARIED_SIDE
    data = context.config.data.model_copy(update={"patch": (side,) * 3})
    patches = PatchDataset(context.dataset, context.training, data, context.config.seed)
    plain, varied = list[Rows](), list[Rows]()
    for index in range(VARIED):
        draw = patches.draw(0, index)
        case = patches.cases[draw.case]
        variation, random = patches.variation(0, index)
        for kind, into in ((STILL, plain), (variation, varied)):
            raw, codes = patches.cut(case, *patches.region(draw, kind))
            image = normalise(raw, case.statistics, data.normalisation)
            into.append(_rows(*vary(image, codes, kind, (side,) * 3, random), index))
    healthy, faulty = _explained(plain, plain), _explained(varied, plain)
    return faulty / healthy if healthy > SAYS else None


Rows = tuple[NDArray[np.float64], NDArray[np.float64]]


def _rows(image: NDArray[np.float32], codes: NDArray[np.uint8], seed: int) -> Rows:
    """Brightness, edges and curvature at three scales and the label, at some labelled voxels; no turn changes them.

    The patch has mean 0 and deviation 1 first, as behind the first instance norm.
    """
    image = (image - image.mean()) / max(float(image.std()), 1e-6)
    known = np.flatnonzero(codes != IGNORE)
    chosen = np.random.default_rng(seed).choice(known, min(len(known), VARIED_VOXELS), replace=False)
    columns = [np.ones(len(chosen))]
    for scale in VARIED_SCALES:
        smooth = ndimage.gaussian_filter(image, scale)
        edge = np.linalg.norm(np.stack(np.gradient(smooth)), axis=0)
        bent = ndimage.laplace(smooth)
        columns += [one.ravel()[chosen].astype(float) for one in (smooth, edge, bent, smooth**2)]
    return np.stack(columns, axis=1), (codes.ravel()[chosen] == SURFACE).astype(float)


def _explained(learned: list[Rows], asked: list[Rows]) -> float:
    """Correlation of the labels in every other patch with the answer of a fit to the others."""
    found = []
    for part in (0, 1):
        x, y = (np.concatenate(one) for one in zip(*learned[part::2], strict=True))
        u, v = (np.concatenate(one) for one in zip(*asked[1 - part :: 2], strict=True))
        gram = x.T @ x + len(x) * np.diag(1e-3 * x.var(axis=0) + 1e-9)
        answer = u @ np.linalg.solve(gram, x.T @ y)
        spread = float(answer.std() * v.std())
        found.append(float(np.mean((answer - answer.mean()) * (v - v.mean()))) / spread if spread > 0 else 0.0)
    return float(np.mean(found))


def _harshest(context: Context) -> str:
    """The key of the augmentation without which most is left."""
    best, name = -np.inf, "data.augmentation"
    section = context.config.data.augmentation
    for one in ("affine", "intensity", "gamma", "noise", "blur"):
        key = f"{one}_probability"
        if getattr(section, key) == 0:
            continue
        without = section.model_copy(update={key: 0.0})
        data = context.config.data.model_copy(update={"augmentation": without})
        config = context.config.model_copy(update={"data": data})
        left = measure_left(replace(context, config=config)) or 0.0
        if left > best:
            best, name = left, f"data.augmentation.{_STRENGTH[one]}"
    return name


_STRENGTH = {
    "affine": "affine_scale", "intensity": "intensity_scale", "gamma": "gamma", "noise": "noise_std",
    "blur": "blur_sigma_voxels",
}  # fmt: skip


def _found(
    context: Context, key: str, title: str, evidence: str, remedy: str, causes: tuple[str, ...],
    severity: Severity = Severity.warn,
) -> Finding:  # fmt: skip
    return Finding("P7", severity, title, evidence, causes, (remedy,), context.where(key))
