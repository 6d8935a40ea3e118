"""The shape of a phantom scroll: one rolled, folded papyrus as the level sets of a single scalar field.

A spiral wound about the scroll's axis is the field `u = radius / pitch - turn`: winding `k` fills `k <= u < k + 1`, and
adding waves to the radius folds and squeezes all windings together. Level sets of one scalar field cannot cross, so
however crumpled the roll is, its sheets touch but never run through one another - which is what makes the labels exact.

Everything that belongs to a sheet (thickness, fibres, holes, delamination) is read from periodic tables over the
*unrolled* papyrus, arc length by z, so it runs on along a winding and changes from one winding to the next.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

FloatVolume = npt.NDArray[np.float32]
RandomStream = Callable[[str], np.random.Generator]

# Samples along the winding and along z. Neighbours lie hundreds of voxels of arc apart, so repeats do not line up.
TABLE_LENGTH, TABLE_HEIGHT = 512, 256
CORE_WINDINGS = 0.6  # nothing is wound tighter than this many turns from the axis: the spiral's core is hollow


@dataclass(frozen=True)
class SheetSettings:
    """How a roll is wound and how damaged it is; lengths in voxels, shares of the sheet's area."""

    pitch_voxels: float = 13.5
    thickness_voxels: float = 10.0
    fold_strength: float = 0.45  # largest relative squeeze of the windings by the waves; 1 would fold the field over
    hole_share: float = 0.012
    delaminated_share: float = 0.15


@dataclass(frozen=True)
class Spiral:
    """Where each voxel lies in the roll; all arrays [Z,Y,X]."""

    winding: npt.NDArray[np.int16]  # number of the winding, counted outwards
    fraction: FloatVolume  # 0 at the winding's inner boundary, 1 at its outer one
    local_pitch: FloatVolume  # voxels per winding here, squeezed and stretched by the waves
    turns: FloatVolume  # turns of the spiral between its start and this voxel: negative before the papyrus begins
    pitch_voxels: float


@dataclass(frozen=True)
class Sheets:
    """The papyrus of a volume; all arrays [Z,Y,X], distances in voxels along the sheet's normal.

    The recto face of a winding looks towards the axis, as on a real scroll. `above_recto` is the signed distance to the
    recto face of the voxel's own winding (positive inside the sheet and beyond); `below_next_recto` the distance to the
    recto face of the next winding outwards (positive on this side of it).
    """

    spiral: Spiral
    above_recto: FloatVolume
    below_next_recto: FloatVolume
    own_recto_present: npt.NDArray[np.bool_]  # False where the own winding has a hole or has not begun
    next_recto_present: npt.NDArray[np.bool_]
    occupancy: FloatVolume  # share of the voxel filled with papyrus, 0 to 1
    depth_share: FloatVolume  # 0 at the recto face, 1 at the verso face
    recto_fibres: FloatVolume  # unit-variance texture running along the winding
    verso_fibres: FloatVolume  # unit-variance texture running across it, along z


def smooth_noise(
    random: np.random.Generator, shape: tuple[int, ...], sigma: float | tuple[float, ...], mode: str = "wrap"
) -> FloatVolume:
    """Gaussian noise smoothed over `sigma` samples per axis, scaled to zero mean and unit variance."""
    noise = ndimage.gaussian_filter(random.standard_normal(shape, dtype=np.float32), sigma, mode=mode, truncate=3.0)
    noise -= noise.mean(dtype=np.float64)
    noise /= noise.std(dtype=np.float64) + 1e-12
    return np.asarray(noise, dtype=np.float32)


def enlarge(coarse: FloatVolume, shape: tuple[int, ...], spacing: int) -> FloatVolume:
    """Spread a coarse grid over `shape`, one node every `spacing` voxels, with smooth steps between the nodes."""
    for axis, length in enumerate(shape):
        place = np.arange(length) / spacing
        node = place.astype(np.int64)
        step = (place - node).astype(np.float32)
        weight = (step * step * (3 - 2 * step)).reshape([-1 if other == axis else 1 for other in range(coarse.ndim)])
        coarse = coarse.take(node, axis) * (1 - weight) + coarse.take(node + 1, axis) * weight
    return coarse


def wave_field(random: np.random.Generator, shape: tuple[int, int, int]) -> FloatVolume:
    """Sum of random plane waves, about 40 to 110 voxels long with shallow ripples on top; arbitrary scale."""
    total = np.zeros(shape, dtype=np.float32)
    axes = [np.arange(length, dtype=np.float64) for length in shape]
    for wavelength, steepness in [
        *((length, 1.0) for length in random.uniform(40, 110, 7)),
        (23.0, 0.22),
        (17.0, 0.14),
    ]:
        direction = random.standard_normal(3) * (0.6, 1.0, 1.0)  # a scroll varies least along its axis
        direction *= 2 * np.pi / (wavelength * np.linalg.norm(direction))
        z, y, x = (
            np.exp(1j * number * axis).astype(np.complex64) for number, axis in zip(direction, axes, strict=True)
        )
        amplitude = wavelength * steepness * np.exp(2j * np.pi * random.random())
        plane = (np.complex64(amplitude) * y)[:, None] * x[None, :]
        total += (z[:, None, None] * plane).real
    return total


def wind(random: RandomStream, shape: tuple[int, int, int], settings: SheetSettings) -> Spiral:
    """Place the axis inside the volume (one in four) or outside, and wind a wavy, flattened spiral about it."""
    draw = random("axis")
    centre = np.array(shape, dtype=np.float64) / 2
    bearing = draw.uniform(0, 2 * np.pi)
    reach = draw.uniform(0, 0.25) * min(shape[1:]) if draw.random() < 0.25 else draw.uniform(0.9, 3.0) * max(shape[1:])
    axis_y, axis_x = centre[1] + reach * np.sin(bearing), centre[2] + reach * np.cos(bearing)
    lean_y, lean_x = draw.uniform(-0.12, 0.12, 2)
    flattening, flat_angle = draw.uniform(0.85, 1.0), draw.uniform(0, np.pi)
    offset = draw.random()

    z = np.arange(shape[0], dtype=np.float64)[:, None, None] - centre[0]
    y = np.arange(shape[1], dtype=np.float64)[None, :, None] - axis_y - lean_y * z
    x = np.arange(shape[2], dtype=np.float64)[None, None, :] - axis_x - lean_x * z
    along = x * np.cos(flat_angle) + y * np.sin(flat_angle)
    across = (y * np.cos(flat_angle) - x * np.sin(flat_angle)) / flattening
    radius = np.hypot(along, across)
    # The count of windings jumps by one where the angle wraps round; turned away from the volume's middle, the jump
    # misses the volume when the axis is outside. Sheets are continuous across it either way.
    middle = np.arctan2(-(centre[1] - axis_y), -(centre[2] - axis_x)) if reach > 0 else 0.0
    turn = ((np.arctan2(y, x) - middle) / (2 * np.pi)) % 1.0

    waves = wave_field(random("waves"), shape)
    slopes = np.gradient(waves)
    squeeze = (slopes[1] * y + slopes[2] * x) / np.maximum(np.hypot(y, x), 1.0)
    waves *= settings.fold_strength / max(float(np.quantile(np.abs(squeeze[::2, ::2, ::2]), 0.995)), 1e-6)
    phase = (radius + waves) / settings.pitch_voxels - turn + offset
    winding = np.floor(phase)
    # The gradient of the whole-turn part (without `turn`, whose own slope is small but whose jump is not).
    density = np.sqrt(sum(np.square(slope) for slope in np.gradient((radius + waves).astype(np.float32))))
    return Spiral(
        winding=winding.astype(np.int16),
        fraction=(phase - winding).astype(np.float32),
        local_pitch=(settings.pitch_voxels / np.clip(density, 0.4, 2.5)).astype(np.float32),
        turns=(winding + turn - offset).astype(np.float32),
        pitch_voxels=settings.pitch_voxels,
    )


@dataclass(frozen=True)
class Unrolled:
    """Coordinates on the unrolled papyrus: arc length and z in voxels, to read the periodic tables with."""

    arc: npt.NDArray[np.float64]
    height: npt.NDArray[np.float64]

    def read(self, table: FloatVolume, voxels_per_sample: tuple[float, float] = (1.0, 1.0)) -> FloatVolume:
        """The table [height, arc] at every voxel, linearly interpolated and repeated without a seam."""
        where = np.stack([self.height / voxels_per_sample[0], self.arc / voxels_per_sample[1]])
        return np.asarray(ndimage.map_coordinates(table, where, output=np.float32, order=1, mode="grid-wrap"))


def unroll(spiral: Spiral, windings_outwards: int = 0) -> Unrolled:
    """Arc length along the Archimedean spiral: pi * pitch * turns^2, from the start of the papyrus."""
    turns = spiral.turns.astype(np.float64) + windings_outwards
    height = np.broadcast_to(np.arange(turns.shape[0], dtype=np.float64)[:, None, None], turns.shape)
    return Unrolled(arc=np.pi * spiral.pitch_voxels * turns * np.abs(turns), height=height)


def _gap_voxels(unrolled: Unrolled, spiral: Spiral, settings: SheetSettings, table: FloatVolume) -> FloatVolume:
    """Air below the recto face: what the sheet's thickness leaves of the local pitch, nothing where squeezed."""
    thickness = settings.thickness_voxels * (1 + 0.13 * unrolled.read(table, (4.0, 6.0)))
    return np.clip(spiral.local_pitch - thickness, 0.0, 0.6 * spiral.local_pitch).astype(np.float32)


def _intact(
    unrolled: Unrolled, spiral: Spiral, holes: FloatVolume, limit: float, outwards: int
) -> npt.NDArray[np.bool_]:
    begun = spiral.turns + outwards > CORE_WINDINGS
    return np.asarray((unrolled.read(holes, (2.0, 2.0)) < limit) & begun)


def make_sheets(random: RandomStream, shape: tuple[int, int, int], settings: SheetSettings) -> Sheets:
    """Wind the papyrus and give it faces, thickness, roughness, holes, slits between its two layers, and fibres.

    Arguments: `random(name)` gives one independent generator per name; `shape` is (z, y, x) in voxels.
    """
    spiral = wind(random, shape, settings)
    here, outwards = unroll(spiral), unroll(spiral, 1)
    size = (TABLE_HEIGHT, TABLE_LENGTH)
    thickness_table = smooth_noise(random("thickness"), size, 3.0)
    hole_table = smooth_noise(random("holes"), size, 2.2)
    hole_limit = float(np.quantile(hole_table, 1 - settings.hole_share))

    pitch, fraction = spiral.local_pitch, spiral.fraction
    above_recto = fraction * pitch - _gap_voxels(here, spiral, settings, thickness_table)
    below_next = (1 - fraction) * pitch + _gap_voxels(outwards, spiral, settings, thickness_table)
    rough = here.read(smooth_noise(random("roughness"), size, 1.3))
    above_verso = (1 - fraction) * pitch - np.maximum(1.2 * rough, 0)
    present = _intact(here, spiral, hole_table, hole_limit, 0)

    depth = np.clip(above_recto / np.maximum(above_recto + above_verso, 1.0), 0, 1)
    # A hole is widest at the recto face and ragged, so that its walls slope.
    standing = np.clip(2.5 * (hole_limit - here.read(hole_table, (2.0, 2.0)) + 0.5 * depth + 0.25 * rough), 0, 1)
    standing[spiral.turns <= CORE_WINDINGS] = 0
    # 0.8 rather than 0.5 at the face: two faces in contact leave a faint seam, not a slit half a voxel wide.
    occupancy = np.clip(above_recto + 0.8, 0, 1) * np.clip(above_verso + 0.8, 0, 1) * standing
    loose = smooth_noise(random("delamination"), size, 3.0)
    opening = np.clip(2.0 * (here.read(loose, (3.0, 3.0)) - np.quantile(loose, 1 - settings.delaminated_share)), 0, 2.0)
    slit = np.clip(opening / 2 - np.abs(above_recto - above_verso) / 2 + 0.5, 0, 1) * np.minimum(opening, 1)

    # Fibres lie in rows about 2.5 voxels deep; each row reads its table at another place.
    row = np.floor(np.clip(above_recto, 0, None) / 2.5)
    stacked = Unrolled(arc=here.arc + 37.3 * row, height=here.height + 19.7 * row)
    return Sheets(
        spiral=spiral,
        above_recto=above_recto.astype(np.float32),
        below_next_recto=below_next.astype(np.float32),
        own_recto_present=present,
        next_recto_present=_intact(outwards, spiral, hole_table, hole_limit, 1),
        occupancy=(occupancy * (1 - slit)).astype(np.float32),
        depth_share=depth.astype(np.float32),
        recto_fibres=stacked.read(smooth_noise(random("recto fibres"), size, (1.3, 6.0)), (1.0, 4.0)),
        verso_fibres=stacked.read(smooth_noise(random("verso fibres"), size, (6.0, 1.3)), (4.0, 1.0)),
    )
