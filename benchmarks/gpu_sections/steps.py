"""A training step of ours, through the function that a run calls."""

from collections.abc import Callable
from typing import Any

import torch

from volumen.config.model import ResEncModel, UNetModel
from volumen.config.optimisation import AdamW
from volumen.models import count_parameters
from volumen.runtime import Precision
from volumen.training.state import build_optimiser
from volumen.training.step import training_step

from .plan import Plan, batch_of, network, objective
from .report import Report
from .timing import free_memory, milliseconds, peak_gib, tried_out

OURS = "volumen, bf16"


def step_of(plan: Plan, model: UNetModel | ResEncModel, precision: Precision) -> tuple[Callable[[], Any], int]:
    """A function that does one step on a batch of noise, and the network's number of parameters."""
    made, loss, batch = network(model, plan, precision), objective(), batch_of(plan)
    optimiser = build_optimiser(made, AdamW())
    scaler = torch.amp.GradScaler(plan.device.type) if precision.name == "fp16" else None

    def step() -> object:
        return training_step(
            made, loss, optimiser, batch, precision=precision, device=plan.device, gradient_clip=1.0, scaler=scaler
        )

    return step, count_parameters(made)


def measure(plan: Plan, report: Report) -> None:
    """Rows of section `step`."""
    kind = plan.device.type
    resenc = ResEncModel(size=plan.resenc)  # type: ignore[arg-type]
    _row(plan, report, OURS, plan.unet, plan.default_precision)
    _row(plan, report, f"{OURS}, cudnn.benchmark", plan.unet, plan.default_precision, tried=True)
    _row(plan, report, "volumen, fp32 (TF32)", plan.unet, Precision("fp32", kind))
    if plan.on_card:
        _row(plan, report, "volumen, fp16", plan.unet, Precision("fp16", kind))
    _row(plan, report, f"volumen, resenc {plan.resenc}, bf16", resenc, plan.default_precision)


def _row(
    plan: Plan, report: Report, name: str, model: UNetModel | ResEncModel, precision: Precision, *, tried: bool = False
) -> None:
    def job() -> None:
        step, parameters = step_of(plan, model, precision)
        with tried_out(tried):
            spent = milliseconds(step, plan.device, plan.rounds, plan.warm_up)
        plan.known[name] = spent
        report.add("step", variant=name, ms=spent, gib=peak_gib(plan.device), parameters=parameters)

    free_memory(plan.device)
    report.attempt(name, job)
