"""How large a step may be: sizes to try, what is tried on, and the batch that `data.batch: auto` means on a card."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from volumen.config.schema import Config
from volumen.losses import PRECOMPUTE

Triple = tuple[int, int, int]
SMALLEST_SIDE = 16


@dataclass(frozen=True)
class Size:
    """Patches of a step, and their size in voxels, z y x."""

    batch: int
    patch: Triple

    def all_words(self) -> str:
        """As keys of a configuration."""
        return f"data.batch: {self.batch}, data.patch: {list(self.patch)}"

    def options(self, config: Config) -> str:
        """As options of a command."""
        sides = ",".join(map(str, self.patch))
        patch = f" -o data.patch=[{sides}]" if self.patch != config.data.patch else ""
        return f"-o data.batch={self.batch}{patch}"


def smaller_sizes(own: Size, divisor: int) -> Iterator[Size]:
    """Half the batch, again and again; of one patch then smaller ones, by about a quarter of their sides each."""
    batch, patch = own.batch, own.patch
    while batch > 1:
        batch //= 2
        yield Size(batch, patch)
    least = -(-SMALLEST_SIDE // divisor) * divisor
    while True:
        smaller = tuple(min(side, max(least, int(side * 0.75) // divisor * divisor)) for side in patch)
        if smaller == patch:
            return
        patch = (smaller[0], smaller[1], smaller[2])
        yield Size(1, patch)


def random_batch(size: Size, requires: tuple[str, ...]) -> dict[str, Any]:
    """An invented batch as a step takes it: noise, and planes every eight voxels; memory depends on neither."""
    target = np.zeros(size.patch, np.uint8)
    target[::8] = 1
    made = {name: PRECOMPUTE[name](target, np.ones(size.patch, bool)) for name in requires}
    whole = {"target": target, "valid": np.ones(size.patch, bool), **made}
    repeated = {name: torch.from_numpy(np.stack([one] * size.batch)) for name, one in whole.items()}
    noise = torch.randn(size.batch, 1, *size.patch, generator=torch.Generator().manual_seed(0))
    return {"image": noise, **repeated}
