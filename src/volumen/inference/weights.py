"""Weights in a bundle: a safetensors file, whose header is compared with the network before anything is allocated."""

import math
import struct
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from safetensors.torch import load
from torch import Tensor

from volumen.config.base import Section
from volumen.config.model import Model
from volumen.models.shapes import MOST_TENSORS, Kind, difference, tensors_of
from volumen.system.names import shown
from volumen.system.records import parse_json, typed

LARGEST_HEADER = 8 * 2**20
TYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F64": torch.float64,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
Size = Annotated[int, Field(ge=0, lt=2**48)]


class WeightsError(Exception):
    """Weights are not those of the network; the message follows the file's name."""


class _Entry(Section):
    dtype: Literal["F32", "F16", "BF16", "F64", "I64", "I32", "U8", "BOOL"]
    shape: Annotated[list[Size], Field(max_length=8)]
    data_offsets: tuple[Size, Size]


def header_bytes(beginning: bytes, size: int) -> int:
    """Length of the header of a safetensors file, from its first eight bytes and its size.

    Raises:
        WeightsError: Longer than the file, or than a header is.
    """
    (length,) = struct.unpack("<Q", beginning) if len(beginning) == 8 else (0,)
    if not 2 <= length <= min(LARGEST_HEADER, size - 8):
        raise WeightsError(f"its header has {length} bytes, and the file {size}")
    return int(length)


def check_header(header: bytes, size: int, network: Model) -> None:
    """Compare what a file of weights says about itself with its size, and with the network that it is for.

    Args:
        header: JSON, as it stands behind the first eight bytes.
        size: Of the whole file, bytes.
        network: `config.model`.

    Raises:
        WeightsError: They differ; names the first difference.
        UserError: No such network can be built.
    """
    found: dict[str, Kind] = {}
    reached = 0
    for name, entry in sorted(_entries(header).items(), key=lambda item: item[1].data_offsets):
        kind = TYPES[entry.dtype]
        begin, end = entry.data_offsets
        if begin != reached or end - begin != math.prod(entry.shape) * kind.itemsize:
            raise WeightsError(f"{shown(name)} of {entry.shape} {entry.dtype} cannot lie at bytes {begin} to {end}")
        found[name] = tuple(entry.shape), kind
        reached = end
    if 8 + len(header) + reached != size:
        raise WeightsError(f"its tensors need {8 + len(header) + reached} bytes, and it has {size}")
    differing = difference(tensors_of(network, len(found)), found)
    if differing:
        raise WeightsError(f"not the weights of the network that it names: {differing}")


def _entries(header: bytes) -> dict[str, _Entry]:
    record: Any = parse_json(header, "its header", "not as safetensors are")
    if not isinstance(record, dict) or len(record) > MOST_TENSORS:
        raise WeightsError("its header is no table of tensors")
    record.pop("__metadata__", None)  # says nothing about the tensors
    entries: dict[str, _Entry] = typed(record, dict[str, _Entry], "its header", "not as safetensors are")
    return entries


def read_weights(content: bytes) -> dict[str, Tensor]:
    """The tensors of a file whose header was checked.

    Raises:
        WeightsError: A number is NaN or infinite.
    """
    tensors = load(content)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{name} holds numbers that are not finite")
    return tensors
