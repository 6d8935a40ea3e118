"""What share of a network's own throughput does a prediction reach, with cutting, views, blending and copies?

    ./run bench device_prediction [--size 320] [--tile 128] [--overlap 0.5] [--mirror | --no-mirror] [--filters 32]

A volume of noise, uint16, normalised on its way; a U-Net that was not trained. "Network" is the bare network on as many
tiles, views counted, in calls of the same size, fed from the device's memory.
"""

import argparse
import statistics
import sys
import time

import numpy as np
import torch
from torch import nn

from volumen.config.model import UNetModel
from volumen.data.normalise import Normalised, statistics_of
from volumen.inference.predictor import Predictor
from volumen.inference.views import views
from volumen.models import build_model
from volumen.runtime import choose_device, choose_precision, machine_description


def main() -> int:
    """Print the times and the share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--mirror", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--filters", type=int, default=32)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args()
    device = choose_device(options.device)
    torch.backends.cudnn.benchmark = True
    print(machine_description(device), flush=True)
    model = build_model(UNetModel(filters=options.filters, depth=options.depth))
    found = measure(
        model,
        device,
        options.size,
        options.tile,
        options.overlap,
        options.mirror,
        rounds=options.rounds,
    )
    print("| volume | tiles | views | a call | predictor, s | network, s | share |\n" + "| --- " * 7 + "|")
    what = f"{options.size}^3 | {found['tiles']:.0f} of {options.tile}^3 | {found['views']:.0f}"
    print(
        f"| {what} | {found['batch']:.0f} | "
        f"{found['predictor_seconds']:.2f} | {found['network_seconds']:.2f} | {found['share']:.1%} |"
    )
    return 0


def measure(
    model: nn.Module,
    device: torch.device | str,
    size: int,
    tile: int,
    overlap: float,
    mirror: bool,
    *,
    rounds: int = 3,
) -> dict[str, float]:
    """Medians over rounds, in each of which both are measured.

    Args:
        model: Gives logits [B, 1, Z, Y, X].
        device: Where to compute; tiles are cut and summed there, whichever it is.
        size: Side of the volume, in voxels.
        tile: Side of a tile.
        overlap: Share of a tile that neighbours have in common.
        mirror: Whether to average over the eight mirror images.
        rounds: How often.

    Returns:
        `predictor_seconds`, `network_seconds`, `share` (network over predictor); `tiles`, `views`, and `batch`, the
        tiles of a call.
    """
    device = torch.device(device)
    predictor = Predictor(
        model,
        tile=(tile, tile, tile),
        overlap=overlap,
        device=device,
        precision=choose_precision("auto", device),
        mirror=mirror,
        sums=True,
    )
    stored = np.random.default_rng(0).integers(0, 60000, (size,) * 3, dtype=np.uint16)
    image = Normalised(stored, statistics_of(stored), "zscore")
    seen = len(views(mirror=mirror, rotate=False))
    count = len(predictor.plan(image.shape)) * seen
    warm = min(size, tile + tile // 2)
    predictor.logits(Normalised(stored[:warm, :warm, :warm], image.statistics, image.method))
    batch = predictor.batch
    own, bare = [], []
    for number in range(rounds + 1):
        began = time.perf_counter()
        predictor.logits(image)
        own.append(time.perf_counter() - began)
        bare.append(_network_seconds(predictor, count, batch))
        if number == 0:  # every size of a call has been seen
            own.clear()
            bare.clear()
    shares = [network / predicted for network, predicted in zip(bare, own, strict=True)]
    return {
        "predictor_seconds": statistics.median(own),
        "network_seconds": statistics.median(bare),
        "share": statistics.median(shares),
        "tiles": float(count // seen),
        "views": float(seen),
        "batch": float(batch),
    }


def _network_seconds(predictor: Predictor, count: int, batch: int) -> float:
    """Of the network alone on so many tiles."""
    device, was_training = predictor.device, predictor.model.training
    predictor.model.eval()
    images = torch.randn(batch, 1, *predictor.tile, device=device).to(memory_format=predictor.precision.memory_format)
    _wait(device)
    began = time.perf_counter()
    with torch.inference_mode():
        for start in range(0, count, batch):
            predictor.engine(images[: count - start])
    _wait(device)
    seconds = time.perf_counter() - began
    predictor.model.train(was_training)
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    sys.exit(main())
