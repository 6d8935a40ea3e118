"""A card that is gone, in words: what PyTorch says of it, and what is left to do."""

import re

from volumen.errors import UserError

_GONE = re.compile(
    r"CUDA (driver )?error|Triton Error \[CUDA\]|CUDNN_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR)|"
    r"CUBLAS_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR)|fallen off the bus|uncorrectable (NVLink|ECC)|"
    r"cuda(Error|Failure)\w*",
    re.IGNORECASE,
)


class DeviceLostError(UserError):
    """The card does not answer any more; what it held cannot be read."""


def is_lost(error: BaseException) -> bool:
    """Whether an error says that a card is gone, or that nothing more can be computed on it in this process."""
    return isinstance(error, RuntimeError) and _GONE.search(str(error)) is not None


def lost_device(error: BaseException, run: object, step: int | None) -> DeviceLostError:
    """What a run ends with.

    Args:
        error: PyTorch's.
        run: Folder.
        step: Of the last checkpoint; None where there is none.
    """
    said = f"{(str(error).splitlines() or [type(error).__name__])[0]:.160}"
    if step is None:
        return DeviceLostError(
            f"the card is lost ({said}), and there is no checkpoint yet: look at the card (nvidia-smi, the system's "
            "log), then start again"
        )
    return DeviceLostError(
        f"the card is lost ({said}); the checkpoint of step {step} stands: look at the card (nvidia-smi, the system's "
        f"log), then go on with: volumen train {run} --resume"
    )
