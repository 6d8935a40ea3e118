"""What an empty part of a scan costs the rest of it: drawn emptiness is looked for, and masks are compared.

    ./run bench masked_scans find FOLDER... [--draws 100] [--seed 0]
    ./run bench masked_scans predict RUN --dataset PREPARED [--seed 0] [--side 96]

`find` empties drawn parts (slabs, cylinders, frames, corners, oblique cuts, balls, under values of several kinds) of
the volumes in the folders and counts what `find_emptiness` misses or invents. `predict` empties parts of two held-out
volumes and holds the mask of what is left against that of the whole volume. Beside it stands what could be reached at
most by a network that sees nothing of the empty part: the same with the statistics of the whole volume, those of its
grey values and, taken from the whole volume's tiles, those of its instance norms.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from volumen.data.dataset import PreparedDataset
from volumen.data.emptiness import fill_in, find_emptiness
from volumen.data.normalise import IntensityStatistics, statistics_of
from volumen.data.volumes import load_volume
from volumen.inference.recipe import Recipe, open_recipe
from volumen.models.norm import InstanceNormLeakyReLU
from volumen.runs.run import Run

Mask = NDArray[np.bool_]
Moments = tuple[Tensor, Tensor]
SHAPES = ("slab", "cylinder", "frame", "corner", "oblique", "ball")
VALUES = ("zero", "greatest", "median", "rare", "below zero")
FAR = 8  # voxels from the mask: beyond most of the context that is lost


def drawn_mask(shape: tuple[int, ...], kind: str, random: np.random.Generator) -> Mask:
    """Where the scan holds nothing."""
    z, y, x = np.indices(shape)
    sides = np.array(shape)
    if kind == "slab":
        axis = int(random.integers(3))
        return np.asarray((z, y, x)[axis] > sides[axis] * random.uniform(0.1, 0.9))
    if kind == "cylinder":
        centre = sides * random.uniform(0.35, 0.65, 3)
        return np.asarray(np.hypot(y - centre[1], x - centre[2]) > min(shape[1:]) * random.uniform(0.25, 0.55))
    if kind == "frame":
        depth = np.minimum.reduce([z, y, x, sides[0] - 1 - z, sides[1] - 1 - y, sides[2] - 1 - x])
        return np.asarray(depth < int(random.integers(3, max(4, min(shape) // 4))))
    if kind == "corner":
        return np.asarray((z > sides[0] * random.uniform(0.3, 0.8)) & (y > sides[1] * random.uniform(0.3, 0.8)))
    if kind == "oblique":
        slope_y, slope_x = random.uniform(0.2, 1, 2)
        return np.asarray(z + slope_y * y + slope_x * x > sides.sum() / 3 * random.uniform(0.8, 1.6))
    centre = sides * random.uniform(0.4, 0.6, 3)
    distance = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
    return np.asarray(distance > min(shape) * random.uniform(0.3, 0.6))


def find(folders: list[Path], draws: int, seed: int) -> int:
    """How often drawn emptiness is found within 2 % of it and 0.2 % of the volume; the others are listed."""
    files = sorted(file for folder in folders for file in folder.rglob("*.tif") if "labels" not in str(file.parent))
    random, wrong = np.random.default_rng(seed), 0
    for _ in range(draws):
        file = files[int(random.integers(len(files)))]
        image = np.asarray(load_volume(file).array)
        kind, value_kind = str(random.choice(SHAPES)), str(random.choice(VALUES))
        empty = drawn_mask(image.shape, kind, random)
        if value_kind == "below zero":
            image = image.astype(np.int32) * 4
        value = {
            "zero": 0,
            "greatest": int(image.max() if value_kind == "below zero" else np.iinfo(image.dtype).max),
            "median": int(np.median(image)),
            "rare": int(image.max()) - 1,
            "below zero": -1200,
        }[value_kind]
        before = find_emptiness(image).scan
        image = np.where(empty, image.dtype.type(value), image)
        found = find_emptiness(image)
        scan = np.ones(image.shape, bool) if found.scan is None else found.scan
        known = np.zeros(image.shape, bool) if before is None else ~before
        missed = np.count_nonzero(scan & empty) / max(np.count_nonzero(empty), 1)
        invented = np.count_nonzero(~scan & ~empty & ~known) / image.size
        if missed > 0.02 or invented > 0.002:
            wrong += 1
            print(f"{file}: {kind} of {value}: {100 * missed:.1f} % missed, {100 * invented:.2f} % invented")
    print(f"{draws - wrong} of {draws} found (seed {seed}, {len(files)} volumes)")
    return int(wrong > 0)


class Norms:
    """The moments of a network's instance norms: recorded tile by tile, and put back."""

    def __init__(self) -> None:
        self.recorded: dict[tuple[int, ...], list[Moments]] = {}
        self.tile: tuple[int, ...] | None = None
        self.replays = False
        self._calls = 0

    def begin(self, tile: tuple[int, ...], *, replays: bool) -> None:
        """The next forward pass is of the tile that begins there."""
        self.tile, self.replays, self._calls = tile, replays, 0
        if not replays:
            self.recorded[tile] = []

    def forward(self, norm: InstanceNormLeakyReLU, values: Tensor, cancelled_bias: Tensor | None = None) -> Tensor:
        """As the norm's own, with the moments of the record where it replays."""
        assert self.tile is not None
        if cancelled_bias is not None:
            values = values + cancelled_bias.view(-1, 1, 1, 1)
        if self.replays:
            mean, variance = self.recorded[self.tile][self._calls]
            self._calls += 1
        else:
            mean = values.mean((2, 3, 4), keepdim=True)
            variance = values.var((2, 3, 4), keepdim=True, unbiased=False)
            self.recorded[self.tile].append((mean, variance))
        normal = (values - mean) / torch.sqrt(variance + norm.eps)
        if norm.weight is not None and norm.bias is not None:
            normal = normal * norm.weight.view(-1, 1, 1, 1) + norm.bias.view(-1, 1, 1, 1)
        return normal if norm.slope == 1 else functional.leaky_relu(normal, norm.slope)

    @contextmanager
    def instead(self) -> Iterator[None]:
        """While it lasts every instance norm is computed here."""
        own: Callable[..., Any] = InstanceNormLeakyReLU.forward
        InstanceNormLeakyReLU.forward = lambda norm, *given: self.forward(norm, *given)  # type: ignore[method-assign]
        try:
            yield
        finally:
            InstanceNormLeakyReLU.forward = own  # type: ignore[method-assign]


def surface(
    recipe: Recipe, image: NDArray[Any], statistics: IntensityStatistics, scan: Mask | None, norms: Norms, replays: bool
) -> Mask:
    """Where the network finds surface, with the moments of `norms` recorded or put back."""
    predictor = recipe.predictor
    tiles = predictor.plan(image.shape)
    padded = tiles.pad(np.asarray(recipe.normalised(image, statistics)[tuple(slice(0, side) for side in image.shape)]))
    there = None if scan is None else tiles.pad(scan)
    total = np.zeros(tiles.padded_shape, np.float64)
    weights = np.einsum("i,j,k->ijk", *tiles.axis_weights)
    with torch.inference_mode(), norms.instead():
        for origin in tiles.origins:
            window = tiles.window(origin)
            if there is None or there[window].any():
                tile = fill_in(padded[window], None if there is None else there[window])
                norms.begin(origin, replays=replays)
                logits = predictor.model(torch.from_numpy(np.ascontiguousarray(tile))[None, None])
                total[window] += weights * logits[0, 0].float().numpy()
    return np.asarray(total[tiles.interior] > 0)


def dice(first: Mask, second: Mask, where: Mask) -> float:
    """Of two masks, inside of a third."""
    both = np.count_nonzero(first & second & where)
    return 2 * both / max(np.count_nonzero(first & where) + np.count_nonzero(second & where), 1)


def predict(run: Path, place: Path, side: int, seed: int) -> int:
    """A table: share emptied, Dice of the rest as it is, and at most."""
    recipe = open_recipe(run, overrides=("inference.engine=torch", "precision=fp32", "device=cpu"))
    recipe.predictor.model.eval()
    dataset = PreparedDataset.open(place)
    held_out = Run(run, place).trained().fold.validation[:2]
    random = np.random.default_rng(seed)
    print("| volume | emptied | share | Dice, all of the scan | far | at most | far |\n" + "| --- " * 7 + "|")
    for case in held_out:
        image = np.asarray(dataset.image(case))[:side, :side, :side]
        norms, of_all = Norms(), statistics_of(image)
        whole = surface(recipe, image, of_all, None, norms, replays=False)
        for kind in SHAPES:
            scan = ~drawn_mask(image.shape, kind, random)
            far = ndimage.distance_transform_edt(scan) > FAR
            now = surface(recipe, image, statistics_of(image, scan), scan, Norms(), replays=False)
            most = surface(recipe, image, of_all, scan, norms, replays=True)
            numbers = [dice(one, whole, where) for one in (now, most) for where in (scan, far)]
            shown = " | ".join(f"{number:.3f}" for number in numbers)
            print(f"| {case} | {kind} | {1 - scan.mean():.0%} | {shown} |", flush=True)
    return 0


def main() -> int:
    """One of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    subjects = parser.add_subparsers(dest="subject", required=True)
    finding = subjects.add_parser("find")
    finding.add_argument("folders", nargs="+", type=Path)
    finding.add_argument("--draws", type=int, default=100)
    predicting = subjects.add_parser("predict")
    predicting.add_argument("run", type=Path)
    predicting.add_argument("--dataset", type=Path, required=True)
    predicting.add_argument("--side", type=int, default=96, help="volumes are cut to a cube of it")
    for each in (finding, predicting):
        each.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.subject == "find":
        return find(options.folders, options.draws, options.seed)
    return predict(options.run, options.dataset, options.side, options.seed)


if __name__ == "__main__":
    raise SystemExit(main())
