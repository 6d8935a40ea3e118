"""Sizes of what is measured, and the networks and batches that several sections share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from volumen.config.load import load_config
from volumen.config.model import ResEncModel, UNetModel
from volumen.config.schema import Config
from volumen.losses import CompositeLoss
from volumen.models import build_model
from volumen.runtime import Precision
from volumen.training.objective import build_objective

PRIOR = 0.07
"""Surface share of the invented labels."""


@dataclass
class Plan:
    """One call of the benchmark."""

    device: torch.device
    out: Path
    filters: int = 32
    depth: int = 4
    resenc: str = "M"
    patch: int = 128
    batch: int = 2
    rounds: int = 24
    warm_up: int = 6
    volume: int = 320
    """Side of the volume that is predicted."""
    matrix: int = 8192
    phantom: int = 256
    phantoms: int = 4
    load_seconds: float = 5.0
    train_seconds: float = 60.0
    learnt_side: int = 96
    """Of the phantoms that are learnt from, in voxels."""
    accuracy_steps: int = 300
    accuracy_seeds: int = 3
    bandwidth: float = 3.0e12
    """Bytes a second that the card's memory gives at best."""
    known: dict[str, float] = field(default_factory=dict)
    """What an earlier section found and a later one needs, by name."""

    @property
    def on_card(self) -> bool:
        """Whether this is a real measurement."""
        return self.device.type == "cuda"

    @property
    def unet(self) -> UNetModel:
        """The network of the tables."""
        return UNetModel(filters=self.filters, depth=self.depth)

    @property
    def default_precision(self) -> Precision:
        """bf16, as a card with tensor cores takes it."""
        return Precision("bf16", self.device.type)


def tiny(device: torch.device, out: Path) -> Plan:
    """Every section in a few seconds on a CPU: it shows that they work, and measures nothing."""
    return Plan(
        device, out, filters=4, depth=2, resenc="S", patch=16, batch=1, rounds=2, warm_up=1, volume=24, matrix=64,
        phantom=48, phantoms=2, load_seconds=0.5, train_seconds=2.0, learnt_side=32, accuracy_steps=3, accuracy_seeds=2,
    )  # fmt: skip


def configured(overrides: list[str]) -> Config:
    """The default preset, changed."""
    return load_config("preset:default", overrides).config


def objective() -> CompositeLoss:
    """The default preset's."""
    return build_objective(configured([]).loss, 0)


def network(model: UNetModel | ResEncModel, plan: Plan, precision: Precision, *, seed: int = 0) -> nn.Module:
    """Ours, in training mode, on the device and in the layout that a run has it in."""
    torch.manual_seed(seed)
    made = build_model(model, prior=PRIOR).train()
    return made.to(device=plan.device, memory_format=precision.memory_format)  # type: ignore[call-overload, no-any-return]


def batch_of(plan: Plan, *, seed: int = 0) -> Mapping[str, Any]:
    """Noise with flat sheets as labels, on the device: no copy counts as a step's time."""
    torch.manual_seed(seed)
    size = (plan.batch, plan.patch, plan.patch, plan.patch)
    target = torch.zeros(size, dtype=torch.uint8)
    target[:, ::14] = 1
    made: dict[str, Tensor] = {
        "image": torch.randn(plan.batch, 1, *size[1:]) + target[:, None],
        "target": target,
        "valid": torch.ones(size, dtype=torch.bool),
    }
    return {name: tensor.to(plan.device) for name, tensor in made.items()}
