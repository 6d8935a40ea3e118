"""From probabilities to a mask: a list of steps, each with its own settings, applied in the order in which they stand.

Steps on probabilities come first, then the one that decides (`threshold` or `hysteresis`), then steps on the mask.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from volumen.config.base import Section
from volumen.errors import UserError

Probability = Annotated[float, Field(gt=0.0, lt=1.0)]
Connectivity = Literal[6, 18, 26]
Voxels = Annotated[int, Field(ge=1, le=10**12)]
Radius = Annotated[int, Field(ge=0, le=10)]


class SharpenRidges(Section):
    """Probabilities lowered where they do not look like a plate: in the valley between two sheets that touch."""

    kind: Literal["sharpen_ridges"]
    scale_voxels: Annotated[float, Field(gt=0.0, le=8.0)] = 1.5
    """Standard deviation of the smoothing, about half the thickness of a sheet."""
    weight: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """0 leaves the probabilities as they are."""


class Threshold(Section):
    """Surface where the probability is above a level."""

    kind: Literal["threshold"] = "threshold"
    level: Probability = 0.5


class Hysteresis(Section):
    """Surface above the lower level, where it is connected to something above the higher one."""

    kind: Literal["hysteresis"]
    low: Probability = 0.3
    high: Probability = 0.85
    connectivity: Connectivity = 26

    @model_validator(mode="after")
    def _ordered(self) -> "Hysteresis":
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        return self


class SplitFused(Section):
    """Sheets that are fused into one component, cut apart where their probability is lowest."""

    kind: Literal["split_fused"]
    levels: Annotated[tuple[Probability, ...], Field(min_length=1, max_length=50)] = (0.6, 0.7, 0.8, 0.9)
    """Probabilities at which a component is tried to be cut, rising."""
    minimum_voxels: Voxels = 2000
    """Of a piece that counts as a sheet of its own."""
    maximum_folded_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.2
    """A component fits badly where more of its columns than this hold several layers."""

    @model_validator(mode="after")
    def _rising(self) -> "SplitFused":
        if list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"levels must rise, got {list(self.levels)}")
        return self


class RemoveSmallComponents(Section):
    """Components below a size are removed."""

    kind: Literal["remove_small_components"]
    minimum_voxels: Voxels | None = None
    """Of what stays; null: 5/64 of a face of the volume, 2000 of 160^3, 320 of 64^3, where a sheet has three faces."""
    connectivity: Connectivity = 26


class FillHoles(Section):
    """Enclosed cavities up to a size are filled."""

    kind: Literal["fill_holes"]
    maximum_voxels: Voxels = 200


class FillCavities(Section):
    """Every enclosed cavity is filled."""

    kind: Literal["fill_cavities"]


class PlugPinholes(Section):
    """Holes of one voxel through a sheet are closed."""

    kind: Literal["plug_pinholes"]


class Close(Section):
    """Closing with a box: gaps narrower than it are bridged."""

    kind: Literal["close"]
    radius_voxels: tuple[Radius, Radius, Radius] = (1, 1, 1)
    """Sides of 2 r + 1, z y x."""


class Open(Section):
    """Opening with a box: parts thinner than it are removed."""

    kind: Literal["open"]
    radius_voxels: tuple[Radius, Radius, Radius] = (1, 1, 1)
    """Sides of 2 r + 1, z y x."""


class Median(Section):
    """Each voxel takes what most of its 27 neighbours have."""

    kind: Literal["median"]
    iterations: Annotated[int, Field(ge=1, le=10)] = 1


class PatchSheets(Section):
    """Holes in a sheet are closed where its height map goes on."""

    kind: Literal["patch_sheets"]
    maximum_hole_voxels: Voxels = 100
    """Area of a hole, seen along the sheet's normal."""


DECIDING = (Threshold, Hysteresis)
Step = Annotated[
    SharpenRidges
    | Threshold
    | Hysteresis
    | SplitFused
    | RemoveSmallComponents
    | FillHoles
    | FillCavities
    | PlugPinholes
    | Close
    | Open
    | Median
    | PatchSheets,
    Field(discriminator="kind"),
]


class Postprocessing(Section):
    """From probabilities to the mask."""

    steps: Annotated[tuple[Step, ...], Field(max_length=50)] = (Threshold(),)
    """Applied in this order; exactly one of them is a `threshold` or `hysteresis`."""

    @property
    def threshold(self) -> float:
        """The least probability that can become surface."""
        step = next(step for step in self.steps if isinstance(step, DECIDING))
        return step.low if isinstance(step, Hysteresis) else step.level

    @model_validator(mode="after")
    def _ordered(self) -> "Postprocessing":
        kinds = [step.kind for step in self.steps]
        deciding = [place for place, step in enumerate(self.steps) if isinstance(step, DECIDING)]
        if len(deciding) != 1:
            raise ValueError(f"steps need exactly one threshold or hysteresis, got {kinds}")
        for place, step in enumerate(self.steps):
            if isinstance(step, SharpenRidges) and place > deciding[0]:
                raise ValueError(f"sharpen_ridges works on probabilities: put it before {kinds[deciding[0]]}")
            if place < deciding[0] and not isinstance(step, SharpenRidges):
                raise ValueError(f"{step.kind} works on a mask: put it after {kinds[deciding[0]]}")
        return self


def with_threshold(settings: Postprocessing, threshold: float | None) -> Postprocessing:
    """The settings with another threshold, or as they are where it is None.

    Raises:
        UserError: The threshold is not between 0 and 1, or the mask is not made by a threshold.
    """
    if threshold is None:
        return settings
    if not 0 < threshold < 1:
        raise UserError(f"--threshold must lie between 0 and 1, both excluded, got {threshold:g}")
    if any(isinstance(step, Hysteresis) for step in settings.steps):
        raise UserError("--threshold replaces the level of a threshold, and this run decides by hysteresis: use -o")
    level = Threshold(level=threshold)
    steps = tuple(level if isinstance(step, Threshold) else step for step in settings.steps)
    return settings.model_copy(update={"steps": steps})
