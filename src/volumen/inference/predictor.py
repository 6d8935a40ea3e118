"""Predict whole volumes of any size with a network that sees tiles.

Logits are stitched, not probabilities, so that blending happens before the sigmoid's saturation. The
predictor leaves the model in the mode in which it found it, for training validates with it.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from volumen.data.emptiness import fill_in
from volumen.data.normalise import Normalised
from volumen.data.packed import Region
from volumen.errors import UserError
from volumen.inference.accumulator import Accumulator, Stitching, file_array, region_of
from volumen.inference.engines import Engine, OpenVinoEngine, TorchEngine
from volumen.inference.network_memory import activation_bytes, busy_batch, free_bytes
from volumen.inference.on_device import Caller, OnDevice, not_finite
from volumen.inference.tiles import Tiles, Triple, plan_tiles
from volumen.inference.views import views
from volumen.postprocess import probabilities_from_logits
from volumen.runtime import Precision
from volumen.system.output import Tally, Warn, unheard
from volumen.system.stopping import raise_if_wanted

Image = NDArray[np.float32] | Normalised
_USABLE = 0.85
"""Of the device's free memory: convolutions want workspace, and the allocator leaves gaps."""
_LEAST = 0.3
"""Of that, for the volume, where many tiles at a time were asked for: there may turn out to be room for fewer."""
EMPTY_LOGIT = -20.0  # where the scan holds nothing: probability 2e-9


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
        rotate: Average them over the four quarter turns about z; with `mirror` over sixteen views.
        batch: Tiles per call of the model, each view of one counted on a device that sums; None: what fits on CUDA, 1
            elsewhere.
        engine: `torch`, or `openvino`, which compiles the weights of this moment at the first volume.
        sums: Whether `device` cuts and sums the tiles as well, and not the host; None: on CUDA.
        device_bytes: Memory of the device for volume and network; None: what is free at each volume.
        say: Told where the device's memory did not do, and what was done about it.

    Raises:
        UserError: A tile that the model cannot take or that cannot be turned, an overlap out of range, or a batch
            below 1.
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
        rotate: bool = False,
        batch: int | None = None,
        engine: Literal["torch", "openvino"] = "torch",
        sums: bool | None = None,
        device_bytes: int | None = None,
        say: Warn = unheard,
    ) -> None:
        plan_tiles(tile, tile, overlap)  # refuses what no volume could be cut by, before a volume is read
        divisor: tuple[int, ...] = getattr(model, "divisor", (1, 1, 1))
        if any(side % unit for side, unit in zip(tile, divisor, strict=True)):
            fits = [max(unit, round(side / unit) * unit) for side, unit in zip(tile, divisor, strict=True)]
            raise UserError(f"tile {list(tile)} must be a multiple of {list(divisor)} for this model: use {fits}")
        if rotate and tile[1] != tile[2]:
            raise UserError(f"a tile that is turned about z must be square in y and x, got {list(tile)}: use another")
        if batch is not None and batch < 1:
            raise UserError(f"batch must be at least 1 tile, got {batch}")
        self.model = model.to(device=device, memory_format=precision.memory_format)  # type: ignore[call-overload]
        self.tile, self.overlap, self.mirror, self.rotate, self.batch = tile, overlap, mirror, rotate, batch or 1
        self.device, self.precision, self.engine_name = torch.device(device), precision, engine
        self.say = say
        self.sums = self.device.type == "cuda" if sums is None else sums
        self._device_bytes = device_bytes
        self._views = views(mirror=mirror, rotate=rotate)
        self._is_automatic = batch is None and self.device.type == "cuda"

    @cached_property
    def engine(self) -> Engine:
        """What computes the tiles; OpenVINO compiles when this is first asked for."""
        if self.engine_name == "torch":
            return TorchEngine(self.model, self.precision)
        return OpenVinoEngine(self.model, self.tile, self.precision)

    def plan(self, shape: tuple[int, ...]) -> Tiles:
        """The tiles by which a volume of this shape is predicted.

        Raises:
            UserError: Not three axes, or an empty one.
        """
        return plan_tiles(shape, self.tile, self.overlap)  # type: ignore[arg-type]

    def logits(
        self,
        image: Image,
        mask: NDArray[np.bool_] | None = None,
        progress: Tally | None = None,
        *,
        region: Region | None = None,
        scratch: Path | None = None,
    ) -> NDArray[np.float32]:
        """Predict a volume, or a box of it: logits, float32 [Z, Y, X].

        Args:
            image: Normalised grey values, float32 [Z, Y, X].
            mask: True where the scan holds something, bool [Z, Y, X]; None: everywhere. What is empty is background;
                the model sees voxels of the scan there (`emptiness.fill_in`), as in training, and no tile without any.
            progress: Told how many of how many tiles are done.
            region: The box that is wanted: the crop of the whole volume's result, by the tiles that touch it.
            scratch: Folder for the intermediate volume, where it would not fit into memory.

        Raises:
            UserError: The model gives anything but one finite logit per voxel, the shapes of image and mask differ, the
                region lies outside, or the scratch folder has no room.
            StopWanted: Somebody asked a training to stop.
        """
        return self._predicted(image, mask, progress, region, scratch, probabilities=False)

    def probabilities(
        self,
        image: Image,
        mask: NDArray[np.bool_] | None = None,
        progress: Tally | None = None,
        *,
        region: Region | None = None,
        scratch: Path | None = None,
    ) -> NDArray[np.float32]:
        """As `logits`, through the sigmoid: float32 [Z, Y, X] in 0..1."""
        return self._predicted(image, mask, progress, region, scratch, probabilities=True)

    def _predicted(
        self,
        image: Image,
        mask: NDArray[np.bool_] | None,
        progress: Tally | None,
        region: Region | None,
        scratch: Path | None,
        *,
        probabilities: bool,
    ) -> NDArray[np.float32]:
        tiles = self.plan(image.shape)
        if mask is not None and mask.shape != image.shape:
            raise UserError(f"mask {list(mask.shape)} must have the shape of the image {list(image.shape)}")
        with self._evaluating():
            if self.sums:
                shape = Stitching(tiles, region).shape
                place = np.empty(shape, np.float32) if scratch is None else file_array(scratch, shape)
                work = OnDevice(
                    tiles, image, mask, region, place, EMPTY_LOGIT, probabilities, self.device, progress or unheard
                )
                if self._on_device(work):
                    return place
                del work, place
                self.say(
                    f"the device has no memory for {len(tiles.starts[1]) * len(tiles.starts[2])} tiles side by side: "
                    "the host blends them, one at a time"
                )
            return self._on_host(tiles, image, mask, progress, region, scratch, probabilities=probabilities)

    def _on_device(self, work: OnDevice) -> bool:
        """Whether the device has the memory for it."""
        batch, budget = self.batch, self._device_bytes
        if self.device.type == "cuda":
            room = int(_USABLE * (free_bytes(self.device) if budget is None else budget))
            if self._is_automatic:
                self.batch = batch = busy_batch(self.tile, room, self._tile_bytes)
                self._is_automatic = False
            budget = max(room - batch * self._tile_bytes, int(_LEAST * room))
        caller = Caller(self.engine, self._views, batch, self.precision.memory_format, self.say)
        with torch.inference_mode():
            done = work.run(caller, budget)
        self.batch = caller.batch
        return done

    @cached_property
    def _tile_bytes(self) -> int:
        """Memory that the network takes for one tile."""
        return activation_bytes(self.model, self.tile, self.precision)

    def _on_host(
        self,
        tiles: Tiles,
        image: Image,
        mask: NDArray[np.bool_] | None,
        progress: Tally | None,
        region: Region | None,
        scratch: Path | None,
        *,
        probabilities: bool,
    ) -> NDArray[np.float32]:
        whole = Accumulator(tiles, region, scratch)
        try:
            self._fill(whole, image, mask, progress)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"{self.device} has no memory for a tile of {list(self.tile)} with this network: use a smaller one "
                "(--tile, or inference.tile), or -o device=cpu"
            ) from error
        result = whole.finish()
        if mask is not None:
            inside = mask[region_of(image.shape, region)]
            for plane, there in zip(result, inside, strict=True):
                plane[~there] = EMPTY_LOGIT
        if probabilities:
            for plane in result:  # plane by plane: a volume in a file stays there
                probabilities_from_logits(plane, out=plane)
        return result

    def _fill(self, whole: Accumulator, image: Image, mask: NDArray[np.bool_] | None, progress: Tally | None) -> None:
        """Compute every tile that is waited for."""
        tiles = whole.tiles
        read = _reader(tiles, image, mask)
        total = len(whole)
        if mask is not None:
            padded = tiles.pad(mask)
            for origin in whole.waiting:
                if not padded[tiles.window(origin)].any():
                    whole.skip(origin)
        waiting = iter(whole.waiting)
        batch = 1 if self.sums else self.batch  # a device that sums is asked here only where its memory is short
        while chunk := list(islice(waiting, batch)):
            raise_if_wanted()
            stacked = np.stack([read(tiles.window(origin)) for origin in chunk])[:, None]
            for origin, values in zip(chunk, self._predict(stacked), strict=True):
                if not np.isfinite(values).all():
                    raise not_finite(origin)
                whole.add(origin, values)
            if progress is not None:
                progress(total - len(whole), total)

    def _predict(self, stacked: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits float32 [B, Z, Y, X] of tiles [B, 1, Z, Y, X]."""
        with torch.inference_mode():
            images = torch.from_numpy(np.ascontiguousarray(stacked, dtype=np.float32))
            images = images.to(device=self.device, memory_format=self.precision.memory_format)
            total = self.engine(images)
            for view in self._views[1:]:
                total += view.undo(self.engine(view.of(images)))
            if len(self._views) > 1:
                total /= len(self._views)
            result: NDArray[np.float32] = total[:, 0].cpu().numpy()
        return result

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        was_training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(was_training)


def _reader(
    tiles: Tiles, image: Image, mask: NDArray[np.bool_] | None
) -> Callable[[tuple[slice, ...]], NDArray[np.float32]]:
    """What reads a window of the padded volume; a volume that needs no padding is read window by window."""
    if tiles.is_padded:
        image = tiles.pad(np.asarray(image[tuple(slice(0, side) for side in image.shape)], dtype=np.float32))
    scan = None if mask is None else tiles.pad(mask)

    def read(window: tuple[slice, ...]) -> NDArray[np.float32]:
        return fill_in(np.asarray(image[window], dtype=np.float32), None if scan is None else scan[window])

    return read
