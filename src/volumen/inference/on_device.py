"""Predict a volume where its network computes: tiles cut, seen in all views, summed and divided on one device.

The host only says what is next. Whether tiles were finite, and how far things are, it reads two calls behind.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from volumen.data.normalise import Normalised
from volumen.data.packed import Region
from volumen.errors import UserError
from volumen.inference.accumulator import Stitching, region_of
from volumen.inference.device_image import DeviceImage
from volumen.inference.device_sum import DeviceSum
from volumen.inference.engines import Engine
from volumen.inference.slabs import Slab, image_window, plan_slabs
from volumen.inference.tiles import Tiles, Triple
from volumen.inference.views import View
from volumen.system.output import Tally, Warn
from volumen.system.stopping import raise_if_wanted

_AHEAD = 2
"""Calls of the network under way before the host waits for an earlier one."""


class NoRoom(Exception):
    """The device has no memory for a single tile, beside what it holds."""


def not_finite(origin: Triple) -> UserError:
    """What is said of a network that answers with NaN or infinity."""
    return UserError(
        f"the model's logits are not finite in the tile at {list(origin)}: its weights have diverged "
        "or overflow in this precision; use another checkpoint (--which) or precision fp32"
    )


def give_back() -> None:
    """Return memory that PyTorch keeps for later use to the device."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


@dataclass
class Caller:
    """What asks the network: so many tiles at a time, and fewer where the device has no memory for them."""

    engine: Engine
    views: tuple[View, ...]
    batch: int
    memory_format: torch.memory_format
    say: Warn

    def answers(self, tiles: Sequence[Tensor], views: Sequence[View]) -> Tensor | None:
        """Logits float32 [B, 1, Z, Y, X] of tiles [Z, Y, X], each in its view; None where there is no memory."""
        shape = (len(tiles), 1, *tiles[0].shape)
        try:
            images = torch.empty(shape, dtype=torch.float32, device=tiles[0].device, memory_format=self.memory_format)
            for image, tile, view in zip(images, tiles, views, strict=True):
                image.copy_(view.of(tile[None, None])[0])
            return self.engine(images)
        except torch.OutOfMemoryError:
            return None

    def lower(self, tried: int) -> None:
        """From now on take half as many tiles as were tried.

        Raises:
            NoRoom: That was one.
        """
        give_back()
        if tried == 1:
            raise NoRoom
        self.batch = tried // 2
        self.say(f"the device has no memory for {tried} tiles at a time: it goes on with {self.batch}")


@dataclass
class _Follower:
    """Reads what calls of the network came to, a few calls later."""

    progress: Tally
    done: int
    total: int
    _waiting: deque[tuple[torch.cuda.Event | None, Tensor | None, Sequence[Triple]]] = field(default_factory=deque)

    def add(self, origins: Sequence[Triple], finite: Sequence[Tensor], device: torch.device) -> None:
        """A call that finished these tiles, each with whether it is finite (bool [], on the device)."""
        flags = torch.stack(tuple(finite)).to("cpu", non_blocking=True) if finite else None
        event = None
        if device.type == "cuda":
            event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(device))
        self._waiting.append((event, flags, origins))
        while len(self._waiting) > _AHEAD:
            self._read()

    def finish(self) -> None:
        """Read everything.

        Raises:
            UserError: Logits that are not finite.
        """
        while self._waiting:
            self._read()

    def _read(self) -> None:
        event, flags, origins = self._waiting.popleft()
        if event is not None:
            event.synchronize()
        if flags is None:
            return
        for origin, finite in zip(origins, flags.tolist(), strict=True):
            if not finite:
                raise not_finite(origin)
        self.done += len(origins)
        self.progress(self.done, self.total)


@dataclass(frozen=True)
class OnDevice:
    """One volume to predict."""

    tiles: Tiles
    image: NDArray[np.float32] | Normalised
    """Grey values [Z, Y, X]: float32 as the network sees them, or stored ones with their normalisation."""
    mask: NDArray[np.bool_] | None
    """True where the scan holds something, bool [Z, Y, X]; None: everywhere."""
    region: Region | None
    """The box that is wanted; None: all of the volume."""
    place: NDArray[np.float32]
    """Where the result goes, of the box's shape."""
    empty: float
    """The logit of where the scan holds nothing."""
    probabilities: bool
    """Whether the result goes through the sigmoid."""
    device: torch.device
    progress: Tally
    """Told how many of how many tiles are done."""

    def run(self, caller: Caller, budget: int | None) -> bool:
        """Predict within so many bytes of the device besides the network's; False where they do not do.

        Raises:
            UserError: Logits that are not finite.
            StopWanted: Somebody asked a training to stop.
        """
        rows: int | None = None
        while True:
            box, slabs = Stitching(self.tiles, self.region), tuple[Slab, ...]()
            try:
                image = DeviceImage(self.image, self.mask, self.tiles, image_window(box), self.device)
                slabs = plan_slabs(box, image.itemsize, self.mask is not None, budget, rows)
                if slabs:
                    self._predict(caller, box, image, slabs)
                return bool(slabs)
            except (torch.OutOfMemoryError, NoRoom):
                pass  # what holds memory is gone only behind this block
            give_back()
            deepest = max((len(slab.rows) for slab in slabs), default=1)
            if deepest == 1:
                return False
            rows = deepest // 2
            caller.say(
                f"the device has no memory for so much of a volume: it goes on with slabs of {rows} rows of tiles"
            )

    def _predict(self, caller: Caller, box: Stitching, image: DeviceImage, slabs: Sequence[Slab]) -> None:
        total = len(box)
        for origin in box.waiting:
            if image.is_empty(origin):
                box.skip(origin)
        inside = None if self.mask is None else self.mask[region_of(self.tiles.shape, self.region)]
        whole = DeviceSum(
            box, inside, empty=self.empty, probabilities=self.probabilities, place=self.place, device=self.device
        )
        follower = _Follower(self.progress, total - len(box), total)
        for slab in slabs:
            origins = [origin for row in slab.rows for origin in row.origins if origin in box]
            whole.begin(slab)
            with image.of_slab(slab, origins):
                self._slab(caller, image, whole, follower, slab, origins)
        follower.finish()
        whole.close()

    def _slab(
        self,
        caller: Caller,
        image: DeviceImage,
        whole: DeviceSum,
        follower: _Follower,
        slab: Slab,
        origins: Sequence[Triple],
    ) -> None:
        views = caller.views
        rows, seen = deque(slab.rows), [(origin, number) for origin in origins for number in range(len(views))]
        cut: dict[Triple, Tensor] = {}
        mean, at = torch.empty(0), 0
        while at < len(seen):
            raise_if_wanted()
            chunk = seen[at : at + caller.batch]
            for origin, _ in chunk:
                if origin not in cut:
                    cut[origin] = image.cut(origin)
            answers = caller.answers([cut[origin] for origin, _ in chunk], [views[number] for _, number in chunk])
            if answers is None:
                caller.lower(len(chunk))
                continue
            at += len(chunk)
            done, finite = list[Triple](), list[Tensor]()
            for (origin, number), answer in zip(chunk, answers, strict=True):
                one = views[number].undo(answer[None])[0, 0]
                mean = one if number == 0 else mean.add_(one)
                if number == len(views) - 1:
                    if len(views) > 1:
                        mean.div_(len(views))
                    finite.append(torch.isfinite(mean).all())
                    done.append(origin)
                    whole.add(origin, mean)
                    del cut[origin]
            while rows and whole.has_all(rows[0]):
                whole.finish(rows.popleft())
            follower.add(done, finite, self.device)
            whole.collect()
        for row in rows:
            whole.finish(row)
