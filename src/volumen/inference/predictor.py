"""Predict whole volumes of any size with a network that sees tiles.

Logits are stitched, not probabilities, so that blending happens before the sigmoid's saturation; the one sigmoid of the
project stands here. The predictor leaves the model in the mode in which it found it, for training validates with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import islice, product
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn

from volumen.errors import UserError
from volumen.inference.tiles import Tiles, Triple, merge, plan_tiles

if TYPE_CHECKING:
    from volumen.runtime import Precision

Progress = Callable[[int, int], None]
EMPTY_LOGIT = -20.0  # where the scan holds nothing at all: probability 2e-9
MIRRORS: tuple[tuple[int, ...], ...] = tuple(
    tuple(axis for axis, flipped in zip((2, 3, 4), choice, strict=True) if flipped)
    for choice in product((False, True), repeat=3)
)  # axes of [B, C, Z, Y, X] to flip; the first entry flips none


def probabilities_from_logits(
    logits: NDArray[np.float32], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """The sigmoid, the only one between a network and a mask.

    Args:
        logits: Raw scores, float32, any shape.
        out: Where to write, which may be `logits` itself; a new array by default.
    """
    result: NDArray[np.float32] = expit(logits, out=out)
    return result


def weights_identity(model: nn.Module) -> str:
    """SHA-256 over all weights and buffers, by name: the same weights give the same text in whichever file they lie."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).numpy().tobytes())
    return digest.hexdigest()


class Predictor:
    """A model that predicts volumes of any size, tile by tile.

    Args:
        model: Gives logits [B, 1, Z, Y, X] for images [B, 1, Z, Y, X]; moved to `device`.
        tile: Tile in voxels, z y x; a multiple of the model's divisor.
        overlap: Share of a tile that neighbours have in common, 0 <= overlap < 1.
        device: Where to compute.
        precision: How to compute: automatic casting and memory layout.
        mirror: Average the logits over the eight mirror images, at eight times the work.
        batch: Tiles per call of the model.

    Raises:
        UserError: A tile that the model cannot take, an overlap out of range, or a batch below 1.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        tile: Triple,
        overlap: float,
        device: torch.device | str,
        precision: Precision,
        mirror: bool = False,
        batch: int = 1,
    ) -> None:
        plan_tiles(tile, tile, overlap)  # refuses what no volume could be cut by, before a volume is read
        divisor: tuple[int, ...] = getattr(model, "divisor", (1, 1, 1))
        if any(side % unit for side, unit in zip(tile, divisor, strict=True)):
            fits = [max(unit, round(side / unit) * unit) for side, unit in zip(tile, divisor, strict=True)]
            raise UserError(f"tile {list(tile)} must be a multiple of {list(divisor)} for this model: use {fits}")
        if batch < 1:
            raise UserError(f"batch must be at least 1 tile, got {batch}")
        self.model = model.to(device=device, memory_format=precision.memory_format)  # type: ignore[call-overload]
        self.tile, self.overlap, self.mirror, self.batch = tile, overlap, mirror, batch
        self.device, self.precision = torch.device(device), precision

    def plan(self, shape: tuple[int, ...]) -> Tiles:
        """The tiles by which a volume of this shape is predicted.

        Raises:
            UserError: Not three axes, or an empty one.
        """
        return plan_tiles(shape, self.tile, self.overlap)  # type: ignore[arg-type]

    def logits(
        self,
        image: NDArray[np.float32],
        mask: NDArray[np.bool_] | None = None,
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """Predict a volume.

        Args:
            image: Normalised grey values, float32 [Z, Y, X].
            mask: True where the scan holds something (raw grey value not 0), bool [Z, Y, X]. A tile without any such
                voxel is background without asking the model.
            progress: Told how many of how many tiles are done.

        Returns:
            Logits, float32 [Z, Y, X].

        Raises:
            UserError: The model gives anything but one finite logit per voxel, or the shapes of image and mask differ.
        """
        tiles = self.plan(image.shape)
        if mask is not None and mask.shape != image.shape:
            raise UserError(f"mask {list(mask.shape)} must have the shape of the image {list(image.shape)}")
        was_training = self.model.training
        self.model.eval()
        try:
            return merge(tiles, self._parts(tiles, image, mask, progress))
        finally:
            self.model.train(was_training)

    def probabilities(
        self,
        image: NDArray[np.float32],
        mask: NDArray[np.bool_] | None = None,
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """As `logits`, through the sigmoid: float32 [Z, Y, X] in 0..1."""
        logits = self.logits(image, mask, progress)
        return probabilities_from_logits(logits, out=logits)

    def _parts(
        self, tiles: Tiles, image: NDArray[np.float32], mask: NDArray[np.bool_] | None, progress: Progress | None
    ) -> Iterator[tuple[Triple, NDArray[np.float32]]]:
        padded = tiles.pad(image)
        origins = list(tiles.origins)
        if mask is not None:
            occupied = tiles.pad(mask)
            empty = [origin for origin in origins if not occupied[tiles.window(origin)].any()]
            yield from ((origin, np.full(tiles.tile, EMPTY_LOGIT, dtype=np.float32)) for origin in empty)
            origins = sorted(set(origins) - set(empty))
        waiting, done = iter(origins), len(tiles) - len(origins)
        while chunk := list(islice(waiting, self.batch)):
            stacked = np.stack([padded[tiles.window(origin)] for origin in chunk])[:, None]
            for origin, values in zip(chunk, self._predict(stacked), strict=True):
                if not np.isfinite(values).all():
                    raise UserError(
                        f"the model's logits are not finite in the tile at {list(origin)}: its weights have diverged "
                        "or overflow in this precision; use another checkpoint (--which) or precision fp32"
                    )
                yield origin, values
            done += len(chunk)
            if progress is not None:
                progress(done, len(tiles))

    def _predict(self, stacked: NDArray[np.generic]) -> NDArray[np.float32]:
        """Logits float32 [B, Z, Y, X] of tiles [B, 1, Z, Y, X]."""
        with torch.inference_mode():
            images = torch.from_numpy(np.ascontiguousarray(stacked, dtype=np.float32))
            images = images.to(device=self.device, memory_format=self.precision.memory_format)
            total = self._forward(images)
            for axes in MIRRORS[1:] if self.mirror else ():
                total += self._forward(images.flip(axes)).flip(axes)
            if self.mirror:
                total /= len(MIRRORS)
            result: NDArray[np.float32] = total[:, 0].cpu().numpy()
        return result

    def _forward(self, images: Tensor) -> Tensor:
        with self.precision.autocast():
            logits = self.model(images)
        if not isinstance(logits, Tensor) or logits.shape != images.shape:
            got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UserError(
                f"the model must give one logit per voxel, {list(images.shape)} for these tiles, got {got}: "
                "set in_channels and out_channels to 1"
            )
        return logits.float()
