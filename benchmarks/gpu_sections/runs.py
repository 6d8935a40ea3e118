"""Whole parts of the work: patches a second, a volume's prediction, a minute of training, and what is learnt."""

import importlib.util
import os
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from volumen.config.model import UNetModel
from volumen.config.optimisation import AdamW
from volumen.inference.predictor import Predictor
from volumen.models import set_plain
from volumen.phantoms.scrolls import phantom
from volumen.runtime import Precision
from volumen.training.state import build_optimiser
from volumen.training.step import training_step

from . import steps, workers
from .phantom_data import Phantoms
from .plan import Plan, network, objective
from .report import Report
from .timing import free_memory, milliseconds, settle

CORES = (1, 2, 4)
VIEWS = 8
MOST_CALLS = 64
"""Of the bare network, from which its time for a volume is told."""
SURFACE = 1


def measure_data(plan: Plan, report: Report, phantoms: Phantoms) -> None:
    """Rows of section `data`."""
    prepared, free = phantoms.prepared(), sorted(os.sched_getaffinity(0))
    common = {"prepared": str(prepared), "patch": plan.patch, "batch": plan.batch, "seconds": plan.load_seconds}
    needed = 2000 * plan.batch / plan.known[steps.OURS] if steps.OURS in plan.known else None
    tasks: list[tuple[str, int, dict[str, Any]]] = [
        (f"CPU loader, {cores} cores", cores, {"task": "load", **common}) for cores in CORES if cores <= len(free)
    ]
    if importlib.util.find_spec("device_data"):
        tasks.insert(0, ("device, 1 core", 1, {"task": "load_on_device", "device": plan.device.type, **common}))
    else:
        report.note("patches made on the device are left out: there is no benchmarks/device_data.py")
    needs = {"twice_a_step_needs": needed} if needed else {}
    waiting, first = [], 0
    for name, cores, arguments in tasks:
        if first + cores > len(free):  # no cores of its own are left
            _collect(waiting, report, needs)
            waiting, first = [], 0
        process = workers.start(**arguments, cores=free[first : first + cores])
        waiting.append((name, cores, process))
        first += cores
    _collect(waiting, report, needs)


def _collect(waiting: list[tuple[str, int, "subprocess.Popen[str]"]], report: Report, needs: dict[str, float]) -> None:
    """Rows of what was measured at the same time, on cores of its own each."""
    for name, cores, process in waiting:

        def job(name: str = name, cores: int = cores, process: "subprocess.Popen[str]" = process) -> None:
            report.add("data", variant=name, cores=cores, **list(workers.lines_of(process))[-1], **needs)

        report.attempt(name, job)


def measure_prediction(plan: Plan, report: Report) -> None:
    """Rows of section `prediction`."""
    model = network(plan.unet, plan, plan.default_precision).eval()
    for mirror in (False, True):
        free_memory(plan.device)

        def job(mirror: bool = mirror) -> None:
            if importlib.util.find_spec("device_prediction"):
                import device_prediction

                found = device_prediction.measure(model, plan.device, plan.volume, plan.patch, 0.5, mirror, rounds=1)
            else:
                found = _predicted(plan, model, mirror)
            report.add("prediction", volume=f"{plan.volume}^3", mirror=mirror, **found)

        report.attempt(f"prediction with mirror {mirror}", job)


def _predicted(plan: Plan, model: torch.nn.Module, mirror: bool) -> dict[str, float]:
    """A volume by the predictor, and as many tiles and views by the bare network."""
    precision = plan.default_precision
    tile = (min(plan.patch, plan.volume),) * 3
    predictor = Predictor(model, tile=tile, overlap=0.5, device=plan.device, precision=precision, mirror=mirror)
    image = np.random.default_rng(0).standard_normal((plan.volume,) * 3, dtype=np.float32)
    predictor.logits(image[: tile[0], : tile[1], : tile[2]])
    settle(plan.device)
    began = time.perf_counter()
    predictor.logits(image)
    spent = time.perf_counter() - began
    calls = len(predictor.plan(image.shape)) * (VIEWS if mirror else 1)
    given = torch.randn(1, 1, *tile, device=plan.device).to(memory_format=precision.memory_format)

    def forward() -> object:
        with torch.inference_mode(), precision.autocast():
            return model(given)

    bare = calls * milliseconds(forward, plan.device, min(calls, MOST_CALLS), 3) / 1000
    return {"predictor_seconds": spent, "network_seconds": bare, "share": bare / spent}


def measure_training(plan: Plan, report: Report, phantoms: Phantoms, seconds: float) -> None:
    """Row of section `training`."""
    if steps.OURS not in plan.known:
        step, _ = steps.step_of(plan, plan.unet, plan.default_precision)
        plan.known[steps.OURS] = milliseconds(step, plan.device, plan.rounds, plan.warm_up)
        del step
    free_memory(plan.device)
    overrides = [f"model.filters={plan.filters}", f"model.depth={plan.depth}", "precision=bf16", "data.workers=4"]
    process = workers.start(
        "train", prepared=str(phantoms.prepared()), folder=str(phantoms.folder / "run"), patch=plan.patch,
        batch=plan.batch, seconds=seconds, device=plan.device.type, overrides=overrides,
    )  # fmt: skip
    sampler, found, log = None, {}, plan.out / "utilisation.txt"
    try:
        for said in workers.lines_of(process):
            if "steady" in said and plan.on_card:
                sampler = _sample_utilisation(log)
            elif "done" in said and sampler is not None:
                sampler.terminate()
                sampler.wait()
            else:
                found |= said
    finally:
        for one in (sampler, process):
            if one is not None and one.poll() is None:
                one.kill()
                one.wait()
    readings = _readings(log) if sampler is not None else []
    rate = found["steps_per_second"]
    report.add(
        "training", seconds=seconds, steps=found["steps"], ms_a_step=1000 / rate, bare_ms=plan.known[steps.OURS],
        share_of_bare=rate * plan.known[steps.OURS] / 1000,
        utilisation=statistics.mean(readings) / 100 if readings else float("nan"), readings=len(readings),
    )  # fmt: skip


def _sample_utilisation(log: Path) -> "subprocess.Popen[bytes] | None":
    """Let the driver's own tool write the share of time in which a kernel ran, five times a second."""
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
    try:
        with log.open("wb") as stream:
            return subprocess.Popen(command, stdout=stream)
    except FileNotFoundError:
        return None


def _readings(log: Path) -> list[float]:
    words = log.read_text(encoding="ascii", errors="replace").split()
    return [float(word) for word in words if word.isdigit()]


def measure_accuracy(plan: Plan, report: Report) -> None:
    """Rows of section `accuracy`: Dice on phantoms that were not learnt from, by pairs of the same seed."""
    free_memory(plan.device)
    volumes = [_volume(plan, number) for number in range(4)]
    differences: list[float] = []
    for seed in range(plan.accuracy_seeds):
        ours = _learnt(plan, volumes, seed, plan.default_precision, plain=False)
        plain = _learnt(plan, volumes, seed, Precision("fp32", plan.device.type), plain=True)
        differences.append(ours - plain)
        report.add("accuracy", seed=seed, dice_bf16=ours, dice_plain_fp32=plain, difference=ours - plain)
    error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else float("nan")
    report.add("accuracy", seed="mean", difference=statistics.mean(differences), standard_error=error)


def _volume(plan: Plan, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Image, target and valid, cubes on the device; the last two are held out."""
    made = phantom(number, (plan.learnt_side,) * 3, scroll=number % 2, difficulty=0.3)
    image = torch.from_numpy(made.image.astype(np.float32))
    label = torch.from_numpy(made.label)
    image = (image - image.mean()) / image.std()
    return tuple(part.to(plan.device) for part in (image, (label == SURFACE).to(torch.uint8), label <= SURFACE))


def _learnt(
    plan: Plan, volumes: list[tuple[Tensor, Tensor, Tensor]], seed: int, precision: Precision, *, plain: bool
) -> float:
    """Dice on the held-out volumes after a short training from a seed, which decides weights and patches."""
    model = network(UNetModel(filters=8, depth=3), plan, precision, seed=seed)
    set_plain(model, plain)
    loss, optimiser, side = (
        objective(),
        build_optimiser(model, AdamW(learning_rate=3e-3)),
        min(64, plan.learnt_side // 2),
    )
    draw = np.random.default_rng(seed)
    for _ in range(plan.accuracy_steps):
        cuts: list[tuple[Tensor, ...]] = []
        for _ in range(2):
            z, y, x = draw.integers(0, plan.learnt_side - side + 1, 3)
            volume = volumes[int(draw.integers(2))]
            cuts.append(tuple(part[z : z + side, y : y + side, x : x + side] for part in volume))
        image, target, valid = (torch.stack(parts) for parts in zip(*cuts, strict=True))
        batch = {"image": image[:, None], "target": target, "valid": valid}
        training_step(model, loss, optimiser, batch, precision=precision, device=plan.device, gradient_clip=1.0)
    model.eval()
    both = total = 0
    for image, target, valid in volumes[2:]:
        given = image[None, None].to(memory_format=precision.memory_format)
        with torch.inference_mode(), precision.autocast():
            mask = (model(given)[0, 0].float() > 0) & valid
        truth = (target > 0) & valid
        both, total = both + 2 * int((mask & truth).sum()), total + int(mask.sum() + truth.sum())
    return both / max(total, 1)
