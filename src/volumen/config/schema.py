"""The configuration of a run, whole: one frozen model, every key of which is read somewhere or is an error.

Sections stand in the module of their subject (`data`, `model`, `loss`, `optimisation`); this one joins them and checks
what only shows when two sections are seen together.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from volumen.config.base import Section, Seed
from volumen.config.data import Data, Patch
from volumen.config.experiment import Experiment
from volumen.config.loss import Loss
from volumen.config.model import Model as ModelConfig
from volumen.config.model import MonaiModel, UNetModel
from volumen.config.optimisation import AdamW, Optimiser, Polynomial, Schedule, Training
from volumen.config.postprocessing import Postprocessing

Grey = Annotated[int, Field(ge=-(2**63), lt=2**64)]
RESENC_DIVISORS = {"S": 8, "M": 32}


class Inference(Section):
    """How a whole volume is predicted."""

    tile: Patch | None = None
    """Tile in voxels, z y x; null means the training patch."""
    overlap: Annotated[float, Field(ge=0.0, le=0.95)] = 0.25
    """Share of a tile that neighbouring tiles have in common."""
    mirror: bool = False
    """Test-time augmentation: average over the eight mirror images (eight times the work)."""
    rotate: bool = False
    """Test-time augmentation: average over the four quarter turns about z (four times the work; sixteen with `mirror`,
    as two mirrorings are a half turn)."""
    engine: Literal["auto", "torch", "openvino"] = "auto"
    """What computes predictions: auto takes OpenVINO on a CPU where it is installed. Training validates with torch."""
    batch: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = "auto"
    """Tiles in a call of the network; on CUDA each view of a tile counts. auto: what fits on CUDA, 1 elsewhere."""
    empty: Literal["auto", "found", "none"] | Grey | tuple[Grey, ...] = "auto"
    """Grey values where images that were never prepared hold nothing, which gets no surface. found: zeros, and the fill
    at the faces; none: nothing is empty; auto: what the data set of the training declared, found where it did not."""

    @property
    def declared_empty(self) -> tuple[int, ...] | None:
        """The values; None where they are to be found."""
        if self.empty in ("auto", "found"):
            return None
        return () if self.empty == "none" else self.empty if isinstance(self.empty, tuple) else (int(self.empty),)


class Config(Section):
    """A run."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")] = "default"
    """Names the run and its folder."""
    seed: Seed = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where the processor multiplies it natively (AMX, AVX512-BF16, CUDA), fp32 elsewhere."""
    data: Data
    model: ModelConfig = UNetModel()
    loss: Loss
    optimiser: Optimiser = AdamW()
    schedule: Schedule = Polynomial()
    training: Training = Training()
    inference: Inference = Inference()
    postprocessing: Postprocessing = Postprocessing()
    experiment: Experiment = Experiment()

    @property
    def divisor(self) -> int:
        """Patch and tile sizes must be multiples of this."""
        if isinstance(self.model, UNetModel):
            return int(2**self.model.depth)
        if isinstance(self.model, MonaiModel):
            return self.model.divisor
        return RESENC_DIVISORS[self.model.size]

    @property
    def tile(self) -> tuple[int, int, int]:
        """The tile that prediction uses, z y x."""
        return self.inference.tile or self.data.patch

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        for key, size in (("data.patch", self.data.patch), ("inference.tile", self.tile)):
            if any(side % self.divisor for side in size):
                nearest = [max(self.divisor, round(side / self.divisor) * self.divisor) for side in size]
                raise ValueError(
                    f"{key} {list(size)} must be a multiple of {self.divisor} along each axis for this "
                    f"{self.model.kind} model: use {nearest}"
                )
        if self.data.sampling.patches_per_epoch < self.data.batch:
            raise ValueError(
                f"data.sampling.patches_per_epoch ({self.data.sampling.patches_per_epoch}) is below data.batch "
                f"({self.data.batch}): an epoch would have no step"
            )
        return self
