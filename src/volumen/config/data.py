"""Settings of the data: which volumes, which patches of them, and how patches are varied."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, ValidatorFunctionWrapHandler, WithJsonSchema
from pydantic.functional_serializers import WrapSerializer
from pydantic.functional_validators import WrapValidator

from volumen.config.base import Section

MOST_VOXELS = 2**30
"""Of a patch or tile: 1024 along each axis."""


def _rising(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"expected [low, high] with low <= high, got {list(ends)}: exchange the two")
    return ends


def _held(size: tuple[int, int, int]) -> tuple[int, int, int]:
    voxels = size[0] * size[1] * size[2]
    if voxels > MOST_VOXELS:
        raise ValueError(f"{list(size)} has {voxels} voxels, at most {MOST_VOXELS} are possible: make it smaller")
    return size


class AutoBatch(int):
    """What `auto` stands for until a card has been asked, and on a CPU for good."""


AUTO = AutoBatch(2)
MOST_PATCHES = 4096
"""Of a step."""


def _batch(value: Any, check: ValidatorFunctionWrapHandler) -> int:
    return AUTO if value == "auto" or isinstance(value, AutoBatch) else int(check(value))


def _written(value: int, write: SerializerFunctionWrapHandler) -> Any:
    return "auto" if isinstance(value, AutoBatch) else write(value)


Batch = Annotated[
    int,
    Field(ge=1, le=MOST_PATCHES),
    WrapValidator(_batch),
    WrapSerializer(_written),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MOST_PATCHES}, {"const": "auto", "type": "string"}]}
    ),
]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(ge=0.01, le=100.0)]
Scale = Annotated[float, Field(ge=0.25, le=4.0)]
Deviation = Annotated[float, Field(ge=0.0, le=100.0)]
Blur = Annotated[float, Field(ge=0.0, le=16.0)]
Range = Annotated[tuple[Positive, Positive], AfterValidator(_rising)]
Side = Annotated[int, Field(ge=8, le=2048)]
Patch = Annotated[tuple[Side, Side, Side], AfterValidator(_held)]
Path = Annotated[str, Field(max_length=4096)]


class Augmentation(Section):
    """How a training patch is varied; image, label and ignored voxels always move together.

    Every probability is per sample. Intensities are those of the normalised image (standard deviation about 1).
    """

    flips: bool = True
    """Mirror each axis with probability 1/2."""
    rotations: Literal["auto", "none", "about_z", "all"] = "auto"
    """Turn by random multiples of 90 degrees in planes whose two patch sides are equal.

    In a scroll, z runs along the axis, and the fibres of a sheet's two faces run along and across it: turning about z
    alone keeps that cue. `all` is for objects without an axis, such as cells. auto: about_z where the normals of the
    training labels' surfaces avoid z, all elsewhere; the run says what was chosen, and the measured number.
    """
    affine_probability: Share = 0.3
    """Mild rotation and scaling by interpolation (linear for the image, nearest for the label)."""
    affine_degrees: Annotated[float, Field(ge=0, le=45)] = 20.0
    """Largest rotation about each axis, degrees."""
    affine_scale: Annotated[tuple[Scale, Scale], AfterValidator(_rising)] = (0.8, 1.25)
    """Range of the isotropic scale."""
    intensity_probability: Share = 0.5
    """Multiply and shift the grey values."""
    intensity_scale: Range = (0.8, 1.25)
    """Range of the factor."""
    intensity_shift: Annotated[float, Field(ge=0, le=100)] = 0.2
    """Largest shift, in standard deviations."""
    gamma_probability: Share = 0.4
    """Change the contrast curve between the patch's least and largest grey value."""
    gamma: Range = (0.7, 1.5)
    """Range of the exponent."""
    noise_probability: Share = 0.2
    """Add Gaussian noise."""
    noise_std: Annotated[tuple[Deviation, Deviation], AfterValidator(_rising)] = (0.0, 0.25)
    """Range of the noise's standard deviation."""
    blur_probability: Share = 0.2
    """Gaussian blur."""
    blur_sigma_voxels: Annotated[tuple[Blur, Blur], AfterValidator(_rising)] = (0.4, 1.0)
    """Range of the blur's sigma."""
    empty_probability: Share = 0.0
    """Empty a tenth to nine tenths of the patch and fill it as prediction fills what a scan does not hold; nothing is
    learned there. For scans with empty parts: their masks then depend less on what is missing."""


class Sampling(Section):
    """Which patches an epoch is made of."""

    patches_per_epoch: Annotated[int, Field(ge=1, le=10_000_000)] = 200
    """Patches drawn in one epoch; volumes are drawn in proportion to their voxels."""
    surface_share: Share = 0.67
    """Share of the patches centred on a surface voxel; the others lie anywhere. The realised shares are logged."""
    jitter_voxels: Annotated[int, Field(ge=0, le=2048)] = 16
    """A surface-centred patch is moved by up to this much along each axis."""
    minimum_valid_share: Share = 0.05
    """A patch with fewer labelled voxels is drawn again (up to ten times; what was kept is logged)."""


class Data(Section):
    """The prepared data set, its folds, and the patches drawn from it."""

    dataset: Path
    """Folder written by `volumen prepare`."""
    folds: Path | None = None
    """File written by `volumen folds`; null means `folds.json` in the data set's folder."""
    fold: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """The fold that is held out for validation."""
    normalisation: Literal["zscore", "percentile", "none"] = "zscore"
    """zscore: clip to the 0.5 and 99.5 percentiles, subtract the volume's mean, divide by its standard deviation.
    percentile: map those percentiles to 0 and 1. none: divide by the largest value of the stored type."""
    patch: Patch = (64, 64, 64)
    """Training patch in voxels, z y x."""
    batch: Batch = 2
    """Patches per step. auto: the largest power of two that fits on the card when the run begins, written into its
    configuration; 2 on a CPU."""
    workers: Annotated[int, Field(ge=0, le=256)] = 1
    """Processes that prepare patches; 0 prepares them in the training process. Their number never changes a sample."""
    on_device: Literal["auto", "on", "off"] = "auto"
    """Whether patches are cut and varied by the device that trains: as many volumes as fit lie in its memory, one core
    of the CPU is enough, and `workers` are not needed. Samples are the same but for rounding and the numbers of the
    noise. auto: on a GPU, unless the loss wants targets that only the CPU makes (`medial_recall`, `merge_penalty`)."""
    sampling: Sampling = Sampling()
    augmentation: Augmentation = Augmentation()
