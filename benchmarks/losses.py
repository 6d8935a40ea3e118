"""What each loss term costs, forward and backward, beside a plain version, SciPy or MONAI.

    python benchmarks/losses.py [--size 128] [--batch 2] [--repeats 3] [--threads 1]

Needs the extra `monai`. Contestants take turns within each round, so that a busy machine slows all of them; the table
shows the least CPU seconds of each and the ratio of these. The scene is wavy sheets, everything valid
(the peers know no ignored voxels; ours pay for looking). Compiling the kernels happens before the clock starts.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import edt
import numpy as np
import torch
import torch.nn.functional as F
from monai.losses.cldice import SoftclDiceLoss
from monai.losses.dice import DiceLoss
from monai.losses.focal_loss import FocalLoss
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from volumen.losses import PRECOMPUTE, TERMS, Term
from volumen.losses.terms import ClDice, Entropy

Contestant = Callable[[], object]


@dataclass
class Row:
    name: str
    ours: Contestant
    peer_name: str
    peer: Contestant | None
    seconds: list[float] = field(default_factory=list)
    peer_seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Scene:
    logits: Tensor
    target: Tensor
    valid: Tensor
    precomputed: dict[str, Tensor]

    @property
    def float_target(self) -> Tensor:
        return self.target.unsqueeze(1).float()


def make_scene(batch: int, size: int) -> Scene:
    """Wavy sheets three voxels thick with gaps of eight."""
    steps = torch.arange(size, dtype=torch.float32)
    wave = 6 * torch.sin(steps / 20).view(1, -1, 1) + 4 * torch.cos(steps / 17).view(1, 1, -1)
    target = (((steps.view(-1, 1, 1) + wave) % 11) < 3).to(torch.uint8).expand(batch, -1, -1, -1).contiguous()
    valid = torch.ones_like(target, dtype=torch.bool)
    logits = torch.randn(batch, 1, size, size, size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    pairs = list(zip(target.numpy(), valid.numpy(), strict=True))
    precomputed = {
        name: torch.from_numpy(np.stack([make(*pair) for pair in pairs])) for name, make in PRECOMPUTE.items()
    }
    return Scene(logits, target, valid, precomputed)


def step(loss: Callable[[], Tensor], logits: Tensor) -> Contestant:
    """Forward and backward, down to the gradient of the logits."""
    return lambda: torch.autograd.grad(loss(), logits)


def boundary_weight(target: NDArray[np.uint8], transform: Callable[[NDArray[np.bool_]], NDArray[np.float32]]) -> Tensor:
    """The weight of the boundary term from two full distance transforms a sample."""
    distance = np.stack([transform(sample == 1) + transform(sample == 0) for sample in target]) - 0.5
    return torch.from_numpy(np.clip((5 - distance) / 2, 0, 1).astype(np.float32)).unsqueeze(1)


def plain_boundary(scene: Scene, transform: Callable[[NDArray[np.bool_]], NDArray[np.float32]]) -> Tensor:
    weight = boundary_weight(scene.target.numpy(), transform)
    loss = F.binary_cross_entropy_with_logits(scene.logits, scene.float_target, reduction="none")
    return (loss * weight).sum() / weight.sum()


def plain_connectivity(scene: Scene) -> Tensor:
    pooled = F.max_pool3d(torch.sigmoid(scene.logits), 3, 1, 1)
    return (pooled - F.max_pool3d(scene.float_target, 3, 1, 1)).square().mean()


def plain_recall(scene: Scene) -> Tensor:
    core = scene.precomputed["medial_surface"].unsqueeze(1).float()
    return 1 - ((torch.sigmoid(scene.logits) * core).sum((1, 2, 3, 4)) / core.sum((1, 2, 3, 4))).mean()


def scipy_medial(target: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The medial surface of `volumen.losses.targets` written with SciPy and NumPy."""
    distance = ndimage.distance_transform_edt(target)
    padded = np.pad(distance, 1, mode="edge")
    middle = slice(1, -1)
    slope = np.zeros(distance.shape)
    for axis in range(3):
        later = tuple(slice(2, None) if other == axis else middle for other in range(3))
        earlier = tuple(slice(None, -2) if other == axis else middle for other in range(3))
        slope += ((padded[later] - padded[earlier]) / 2) ** 2
    highest = distance == ndimage.maximum_filter(distance, 3)
    ridge: NDArray[np.bool_] = (highest | (slope < 0.3)) & (target == 1)
    return ridge


def make_rows(scene: Scene) -> list[Row]:
    def ours(term: Term) -> Contestant:
        compute = term.__call__
        return step(
            lambda: compute(scene.logits, scene.target, scene.valid, precomputed=scene.precomputed), scene.logits
        )

    def peer(loss: Callable[[Tensor, Tensor], Tensor]) -> Contestant:
        return step(lambda: loss(scene.logits, scene.float_target), scene.logits)

    def plain(loss: Callable[[], Tensor]) -> Contestant:
        return step(loss, scene.logits)

    def cldice(iterations: int) -> Row:
        theirs = SoftclDiceLoss(iter_=iterations, sigmoid=True)
        return Row(f"cldice, {iterations} iterations", ours(ClDice(iterations=iterations)), "MONAI", peer(theirs))

    target = scene.target.numpy()
    valid = scene.valid.numpy()
    return [
        Row("soft_dice", ours(TERMS["soft_dice"]()), "MONAI", peer(DiceLoss(sigmoid=True))),
        Row("focal", ours(TERMS["focal"]()), "MONAI", peer(FocalLoss(gamma=2.0))),
        Row("cross_entropy", ours(TERMS["cross_entropy"]()), "PyTorch", peer(F.binary_cross_entropy_with_logits)),
        Row("variance", ours(TERMS["variance"]()), "", None),
        Row("entropy", ours(Entropy(minimum=0.69)), "", None),
        Row(
            "boundary",
            ours(TERMS["boundary"]()),
            "SciPy",
            plain(lambda: plain_boundary(scene, ndimage.distance_transform_edt)),
        ),
        Row("boundary", ours(TERMS["boundary"]()), "edt", plain(lambda: plain_boundary(scene, edt.edt))),
        cldice(3),
        cldice(10),
        Row("connectivity", ours(TERMS["connectivity"]()), "PyTorch", plain(lambda: plain_connectivity(scene))),
        Row("medial_recall", ours(TERMS["medial_recall"]()), "PyTorch", plain(lambda: plain_recall(scene))),
        Row("signed_distance", ours(TERMS["signed_distance"]()), "", None),
        Row("merge_penalty", ours(TERMS["merge_penalty"]()), "", None),
        Row(
            "target medial_surface",
            lambda: [PRECOMPUTE["medial_surface"](*pair) for pair in zip(target, valid, strict=True)],
            "SciPy",
            lambda: [scipy_medial(sample) for sample in target],
        ),
        Row(
            "target sheet_gap",
            lambda: [PRECOMPUTE["sheet_gap"](*pair) for pair in zip(target, valid, strict=True)],
            "",
            None,
        ),
    ]


def cpu_seconds(contestant: Contestant) -> float:
    start = time.process_time()
    contestant()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=128, help="edge of the cube, in voxels")
    parser.add_argument("--batch", type=int, default=2, help="samples")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for row in make_rows(make_scene(1, 16)):
        row.ours()  # compiles
    rows = make_rows(make_scene(arguments.batch, arguments.size))
    for _ in range(arguments.repeats):
        for row in rows:
            row.seconds.append(cpu_seconds(row.ours))
            if row.peer is not None:
                row.peer_seconds.append(cpu_seconds(row.peer))
    print(f"{arguments.batch} x {arguments.size}^3, forward + backward, {arguments.threads} thread(s), CPU seconds\n")
    print(f"{'term':24}{'volumen':>10}  {'peer':8}{'seconds':>10}{'ratio':>8}")
    for row in rows:
        line = f"{row.name:24}{min(row.seconds):10.3f}"
        if row.peer_seconds:
            ratio = min(row.peer_seconds) / min(row.seconds)
            line += f"  {row.peer_name:8}{min(row.peer_seconds):10.3f}{ratio:7.1f}x"
        print(line)


if __name__ == "__main__":
    main()
