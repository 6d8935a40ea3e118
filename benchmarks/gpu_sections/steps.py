"""A training step of ours, through the function that a run calls."""

import time
from collections.abc import Callable
from typing import Any

import torch

from volumen.config.model import ResEncModel, UNetModel
from volumen.config.optimisation import AdamW
from volumen.models import count_parameters
from volumen.runtime import Precision
from volumen.training.recorded import Recorder
from volumen.training.state import build_optimiser
from volumen.training.step import Guard, launch_step, training_step

from .plan import Plan, batch_of, network, objective
from .report import Report
from .timing import free_memory, milliseconds, peak_gib, settle, tried_out

OURS = "volumen, bf16"
ONE_BY_ONE = "volumen, bf16, kernels launched one by one"
READ_EACH = "volumen, bf16, read each step"


def step_of(
    plan: Plan,
    model: UNetModel | ResEncModel,
    precision: Precision,
    *,
    late: bool = True,
    recorded: bool = True,
    compiled: bool = False,
) -> tuple[Callable[[], Any], int]:
    """A function that does one step on a batch of noise, and the network's number of parameters.

    Args:
        plan: Sizes and device.
        model: The network.
        precision: Of the step.
        late: Whether its numbers stay on the device, as a run reads them there; fp16 reads each.
        recorded: Whether forward and backward are a CUDA graph, as in a run; where its numbers stay on the device.
        compiled: Whether PyTorch's compiler makes the forward pass, and nothing is recorded.
    """
    made, loss, batch = network(model, plan, precision), objective(), batch_of(plan)
    optimiser = build_optimiser(made, AdamW())
    late = late and plan.on_card and precision.name != "fp16"
    given: dict[str, Any] = {"precision": precision, "device": plan.device, "gradient_clip": 1.0}
    if compiled:
        given["forward"] = torch.compile(made, dynamic=False)
    if late:
        given["guard"] = Guard(made, plan.device)
        given["recorder"] = Recorder(made, _heard) if recorded and not compiled else None
    elif precision.name == "fp16":
        given["scaler"] = torch.amp.GradScaler(plan.device.type)
    take: Callable[..., object] = launch_step if late else training_step

    def step() -> object:
        return take(made, loss, optimiser, batch, **given)

    return step, count_parameters(made)


def _heard(event: dict[str, Any]) -> None:
    if event["kind"] == "not_recorded":
        print(f"  {event['message']}", flush=True)


def measure(plan: Plan, report: Report) -> None:
    """Rows of section `step`."""
    kind = plan.device.type
    resenc, default = ResEncModel(size=plan.resenc), plan.default_precision  # type: ignore[arg-type]
    _row(plan, report, OURS, plan.unet, default)
    if plan.on_card:
        _row(plan, report, ONE_BY_ONE, plan.unet, default, recorded=False)
    _row(plan, report, READ_EACH, plan.unet, default, late=False)
    _row(plan, report, f"{OURS}, cudnn.benchmark", plan.unet, default, tried=True)
    _row(plan, report, "volumen, fp32 (TF32)", plan.unet, Precision("fp32", kind))
    if plan.on_card:
        _row(plan, report, "volumen, fp16", plan.unet, Precision("fp16", kind))
    _row(plan, report, f"volumen, resenc {plan.resenc}, bf16", resenc, default)


def measure_compiled(plan: Plan, report: Report) -> None:
    """Row of section `compiled`: ours under `training.compile: on`."""
    _row(plan, report, "volumen, bf16, compiled", plan.unet, plan.default_precision, section="compiled", compiled=True)


def _row(
    plan: Plan,
    report: Report,
    name: str,
    model: UNetModel | ResEncModel,
    precision: Precision,
    *,
    section: str = "step",
    tried: bool = False,
    **how: bool,
) -> None:
    def job() -> None:
        step, parameters = step_of(plan, model, precision, **how)
        began = time.perf_counter()
        step()
        settle(plan.device)
        first = time.perf_counter() - began
        with tried_out(tried):
            spent = milliseconds(step, plan.device, plan.rounds, plan.warm_up)
        plan.known[name] = spent
        gib = peak_gib(plan.device)
        report.add(section, variant=name, ms=spent, gib=gib, parameters=parameters, first_step_s=first)

    free_memory(plan.device)
    report.attempt(name, job)
