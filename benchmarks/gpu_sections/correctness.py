"""Is it the same network on the card? Logits, loss and gradient against float64 on the CPU, and beside PyTorch's own
operations in the same type.

A figure of a network that computes something else is worth nothing: the benchmark ends where this fails.
"""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from volumen.config.model import ResEncModel, UNetModel
from volumen.models import build_model, set_plain
from volumen.runtime import Precision

from .peers import tensor_float
from .plan import PRIOR, Plan, objective
from .report import Report

SCALE = 2.0**12  # of fp16's loss: gradients of a mean over so many voxels are too small for it
LOGITS = {"fp32": 1e-4, "TF32": 2e-2, "fp16": 2e-2, "bf16": 1e-1}
"""Largest relative error (Euclidean) of the logits, by type: some ten roundings of it."""
GRADIENT = {"fp32": 2e-3, "TF32": 2e-1, "fp16": 2e-1, "bf16": 6e-1}
"""Of the gradient. Instance norm and the kinks of the activation amplify roundings."""
BESIDE = 2.0
"""Times the error of PyTorch's own operations in the same type, which is allowed at least."""


@dataclass(frozen=True)
class Found:
    """What one forward and backward pass gave, float64 on the CPU."""

    logits: Tensor
    loss: float
    gradient: Tensor


def measure(plan: Plan, report: Report) -> bool:
    """Rows of section `correctness`; False where something is wrong."""
    cases: list[tuple[str, UNetModel | ResEncModel, tuple[int, ...]]] = [
        ("unet 5/3", UNetModel(filters=5, depth=3), (3, 16, 24, 40)),
        ("resenc S", ResEncModel(size="S"), (1, 16, 24, 16)),
    ]
    if plan.on_card:
        cases += [
            ("unet 8/2", UNetModel(filters=8, depth=2), (1, 20, 12, 28)),
            ("unet 32/4", UNetModel(filters=32, depth=4), (3, 32, 48, 64)),
            ("resenc M", ResEncModel(size="M"), (1, 64, 64, 32)),
        ]
    verdicts = [_compare(plan, report, name, model, shape) for name, model, shape in cases]
    return all(verdicts)


def _compare(plan: Plan, report: Report, name: str, model: UNetModel | ResEncModel, shape: tuple[int, ...]) -> bool:
    torch.manual_seed(len(name) + sum(shape))
    made = build_model(model, prior=PRIOR).train()
    target = (torch.rand(shape) < PRIOR).to(torch.uint8)
    image = torch.randn(shape[0], 1, *shape[1:]) + target[:, None]
    exact = outcome(made, image, target, torch.device("cpu"), None)
    types: list[tuple[str, str]] = [("fp32", "fp32"), ("bf16", "bf16")]
    if plan.on_card:
        types[1:1] = [("TF32", "fp32"), ("fp16", "fp16")]
    fine = True
    for kind, precision_name in types:
        precision = Precision(precision_name, plan.device.type)  # type: ignore[arg-type]
        with tensor_float(kind == "TF32"):
            ours = outcome(made, image, target, plan.device, precision)
            theirs = outcome(made, image, target, plan.device, precision, plain=True)
        logits, gradient = relative(ours.logits, exact.logits), relative(ours.gradient, exact.gradient)
        plain_logits, plain_gradient = relative(theirs.logits, exact.logits), relative(theirs.gradient, exact.gradient)
        right = within(logits, plain_logits, LOGITS[kind]) and within(gradient, plain_gradient, GRADIENT[kind])
        right = right and abs(ours.loss - exact.loss) <= LOGITS[kind] * abs(exact.loss)
        report.add(
            "correctness", network=name, shape="x".join(map(str, shape)), type=kind, logits=logits,
            plain_logits=plain_logits, loss=abs(ours.loss / exact.loss - 1), gradient=gradient,
            plain_gradient=plain_gradient, verdict="right" if right else "WRONG",
        )  # fmt: skip
        fine = fine and right
    return fine


def within(error: float, plain: float, most: float) -> bool:
    """Whether an error is no worse than the type's, nor than PyTorch's own by more than its double."""
    return math.isfinite(error) and error <= most and error <= max(BESIDE * plain, most / 20)


def relative(found: Tensor, exact: Tensor) -> float:
    """Euclidean length of the difference, by that of the exact."""
    return float((found - exact).norm() / exact.norm())


def outcome(
    model: nn.Module,
    image: Tensor,
    target: Tensor,
    device: torch.device,
    precision: Precision | None,
    *,
    plain: bool = False,
) -> Found:
    """A pass of a copy of the network; without a precision in float64 by PyTorch's own operations."""
    made = copy.deepcopy(model)
    set_plain(made, plain or precision is None)
    if precision is None:
        made, image = made.double(), image.double()
    else:
        layout = precision.memory_format
        made = made.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        image = image.to(device=device, memory_format=layout)
    if precision is None:
        levels = made(image)
    else:
        with precision.autocast():
            levels = made(image)
    target = target.to(device)
    loss = objective()(levels, target, torch.ones_like(target, dtype=torch.bool)).total
    scale = SCALE if precision is not None and precision.name == "fp16" else 1.0
    torch.autograd.backward(loss * scale)
    finest = levels[0] if isinstance(levels, list | tuple) else levels
    gradients = [parameter.grad for parameter in made.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.detach().double().cpu().flatten() / scale for gradient in gradients])
    return Found(finest.detach().double().cpu(), float(loss.detach()), flat)
