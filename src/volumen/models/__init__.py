"""Networks: images in, logits out, always. The one sigmoid of the project is not here.

`build_model(config.model)` is the way in. Every network has `divisor`, of which input sizes must be multiples.
"""

from volumen.models.blocks import set_plain
from volumen.models.build import BUILDERS, build_model, count_parameters
from volumen.models.norm import InstanceNormLeakyReLU
from volumen.models.resenc import RESENC_SIZES, ResEncSize, ResEncUNet
from volumen.models.unet import UNet

__all__ = [
    "BUILDERS",
    "RESENC_SIZES",
    "InstanceNormLeakyReLU",
    "ResEncSize",
    "ResEncUNet",
    "UNet",
    "build_model",
    "count_parameters",
    "set_plain",
]
