"""What computes a tile: PyTorch anywhere, or OpenVINO on a CPU, where it is installed and several times faster."""

import copy
import importlib.util
import sys
import warnings
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from volumen.errors import UserError
from volumen.runtime import Precision

EngineName = Literal["auto", "torch", "openvino"]


class Engine(Protocol):
    """A network that is ready to be asked."""

    name: str

    def __call__(self, images: Tensor) -> Tensor:
        """Logits float32 [B, 1, Z, Y, X] of images float32 [B, 1, Z, Y, X], both on the engine's device."""


class TorchEngine:
    """The network as it is, in the precision that was chosen."""

    name = "torch"

    def __init__(self, model: nn.Module, precision: Precision) -> None:
        self.model, self.precision = model, precision

    def __call__(self, images: Tensor) -> Tensor:
        """As `Engine`."""
        with self.precision.autocast():
            logits = self.model(images)
        if not isinstance(logits, Tensor) or logits.shape != images.shape:
            got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UserError(
                f"the model must give one logit per voxel, {list(images.shape)} for these tiles, got {got}: "
                "set in_channels and out_channels to 1"
            )
        return logits.float()


class OpenVinoEngine:
    """The network compiled by OpenVINO for one size of tile, z y x; later changes of its weights are not seen.

    Raises:
        UserError: OpenVINO is not installed, or cannot translate the network.
    """

    name = "openvino"

    def __init__(self, model: nn.Module, tile: tuple[int, int, int], precision: Precision) -> None:
        openvino = _openvino()
        example = torch.zeros(1, 1, *tile)
        copied = copy.deepcopy(model).to(device="cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # tracing is deprecated in PyTorch, and what OpenVINO reads
                traced = torch.jit.trace(copied, example, check_trace=False)  # type: ignore[no-untyped-call]
                graph = openvino.convert_model(traced)
            graph.reshape([1, 1, *tile])
            settings = {
                "INFERENCE_PRECISION_HINT": "bf16" if precision.name == "bf16" else "f32",
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            }
            compiled = openvino.compile_model(graph, "CPU", settings)
        except (RuntimeError, TypeError) as error:
            raise UserError(
                f"OpenVINO cannot compile this network ({str(error).splitlines()[0]}): use inference.engine: torch"
            ) from error
        if list(compiled.output(0).shape) != [1, 1, *tile]:
            raise UserError(
                f"the model must give one logit per voxel, {[1, 1, *tile]} for this tile, got "
                f"{list(compiled.output(0).shape)}: set in_channels and out_channels to 1"
            )
        self._request = compiled.create_infer_request()

    def __call__(self, images: Tensor) -> Tensor:
        """As `Engine`, one sample after the other."""
        answers = torch.empty_like(images, memory_format=torch.contiguous_format)
        for sample, answer in zip(images.contiguous(), answers, strict=True):
            found = self._request.infer({0: sample[None].numpy()}, share_inputs=True, share_outputs=True)
            answer.copy_(torch.from_numpy(found[0][0]))
        return answers


def choose_engine(requested: EngineName, device: torch.device | str) -> Literal["torch", "openvino"]:
    """The engine to use; auto takes OpenVINO on a CPU where it is installed.

    Raises:
        UserError: OpenVINO is requested and not installed, or on another device than a CPU.
    """
    cpu = torch.device(device).type == "cpu"
    if requested == "openvino":
        _openvino()
        if not cpu:
            raise UserError(f"inference.engine: openvino computes on the CPU, and the device is {device}: use auto")
        return "openvino"
    return "openvino" if requested == "auto" and cpu and importlib.util.find_spec("openvino") else "torch"


def _openvino() -> Any:
    """The package, without the reporter of usage that it would otherwise load, ask about, and send with."""
    if importlib.util.find_spec("openvino") is None:
        raise UserError("OpenVINO is not installed: pip install 'volumen[openvino]', or use inference.engine: torch")
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino
