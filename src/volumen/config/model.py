"""Settings of the network, a union by `kind`."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from volumen.config.base import Section

Channels = Annotated[int, Field(ge=1, le=64)]

_ABOUT = "Run folder or bundle whose weights the training begins with; its network must have the same layers."
InitialWeights = Annotated[str | None, Field(min_length=1, description=_ABOUT)]

WIDEST = 4096
"""Channels of a level; two convolutions of so many hold 1.8 billion weights."""


class UNetModel(Section):
    """3D U-Net (Cicek et al. 2016): double convolutions, instance norm, max-pooling.

    22,575,329 parameters at 32 filters and depth 4.
    """

    kind: Literal["unet"] = "unet"
    filters: Annotated[int, Field(ge=1, le=512)] = 32
    """Channels of the finest level; each coarser level has twice as many."""
    depth: Annotated[int, Field(ge=1, le=6)] = 4
    """Number of poolings; the patch must be a multiple of 2^depth."""
    in_channels: Channels = 1
    out_channels: Annotated[int, Field(ge=1, le=1)] = 1
    """One channel of logits: surface against background."""
    initial_weights: InitialWeights = None

    @model_validator(mode="after")
    def _width(self) -> "UNetModel":
        widest = self.filters * 2**self.depth
        if widest > WIDEST:
            raise ValueError(
                f"filters {self.filters} and depth {self.depth} make {widest} channels at the coarsest level, at most "
                f"{WIDEST} are possible: lower one of them"
            )
        return self


class ResEncModel(Section):
    """Residual-encoder U-Net with deep supervision."""

    kind: Literal["resenc"] = "resenc"
    size: Literal["S", "M"] = "M"
    """S is for a CPU: 4 stages, patches in multiples of 8. M is nnU-Net's ResEnc M and L, which differ in the patch
    alone: 6 stages, patches in multiples of 32."""
    in_channels: Channels = 1
    out_channels: Annotated[int, Field(ge=1, le=1)] = 1
    deep_supervision: bool = True
    """Train the coarser levels of the decoder too, each with half the weight of the next finer one."""
    initial_weights: InitialWeights = None


class MonaiModel(Section):
    """One of MONAI's networks by name; needs the extra `volumen[monai]`."""

    kind: Literal["monai"] = "monai"
    name: str
    """Class in monai.networks.nets, such as SegResNet."""
    in_channels: Channels = 1
    out_channels: Annotated[int, Field(ge=1, le=1)] = 1
    arguments: dict[str, Any] = Field(default={})
    """Keyword arguments of that class besides spatial dimensions and channels."""
    divisor: Annotated[int, Field(ge=1, le=512)] = 16
    """Input sizes must be multiples of this."""
    initial_weights: InitialWeights = None

    @model_validator(mode="after")
    def _own_arguments(self) -> "MonaiModel":
        owned = {"spatial_dims", "in_channels", "out_channels"} & set(self.arguments)
        if owned:
            raise ValueError(f"arguments must not repeat {sorted(owned)}: they are set by the configuration itself")
        return self


Model = Annotated[UNetModel | ResEncModel | MonaiModel, Field(discriminator="kind")]
