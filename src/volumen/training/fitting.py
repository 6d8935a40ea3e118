"""How large a step may be: sizes to try, what is tried on, and the batch that `data.batch: auto` means on a card."""

import gc
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer

from volumen.config.data import MOST_PATCHES, AutoBatch
from volumen.config.dump import config_hash
from volumen.config.load import LoadedConfig
from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.losses import PRECOMPUTE
from volumen.runs.folder import run_config
from volumen.runtime import choose_precision
from volumen.system.memory import amount, is_out_of_memory
from volumen.training.distributed import ALONE, World
from volumen.training.objective import build_objective
from volumen.training.state import fresh_state
from volumen.training.step import NonFiniteError, training_step

Triple = tuple[int, int, int]
SMALLEST_SIDE = 16
MARGIN = 0.2
"""Of the free memory, what `auto` leaves: for volumes, validations, probes, and room that is cut into pieces."""
STEPS = 2
"""Of a trial: the optimiser's moments exist from the second step on."""


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


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was not there, on a card or beside it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and not isinstance(error, NonFiniteError) and is_out_of_memory(str(error))


def let_go(error: BaseException, optimiser: Optimizer, device: torch.device) -> None:
    """Let go of what the failed step held: its graph hangs on the frames that the error remembers."""
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen.__traceback__, seen = None, seen.__context__
    optimiser.zero_grad(set_to_none=True)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def finds_room(step: Callable[[], Any], optimiser: Optimizer, device: torch.device) -> bool:
    """Whether a step finds the memory that it needs; what a failed one held is free again afterwards."""
    failed: BaseException | None = None
    try:
        step()
    except NonFiniteError:  # invented patches; the memory was there
        pass
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        failed = error
    if failed is not None:
        let_go(failed, optimiser, device)
    return failed is None


def with_batch(config: Config, run: Path | None = None, world: World = ALONE) -> Config:
    """The configuration with a number for `data.batch: auto`: what fits here, or what a run began with.

    Several ranks have the batch of the one where least fits, times their number.

    Raises:
        UserError: Not even one patch fits on the card.
    """
    if not isinstance(config.data.batch, AutoBatch):
        return config
    device = world.device_of(config.device)
    if run is not None:
        batch = world.from_first(lambda: run_config(run).data.batch)
    elif device.type == "cpu":
        batch = max(config.data.batch // world.size, 1) * world.size
    else:
        batch = fitting_batch(config, device, free_bytes(device), world)
    return config.model_copy(update={"data": config.data.model_copy(update={"batch": batch})})


def loaded_with_batch(loaded: LoadedConfig[Config], world: World = ALONE) -> LoadedConfig[Config]:
    """As `with_batch`, with where the values come from.

    Raises:
        UserError: Not even one patch fits on the card.
    """
    config = with_batch(loaded.config, world=world)
    return loaded if config is loaded.config else replace(loaded, config=config, hash=config_hash(config))


def free_bytes(device: torch.device) -> int:
    """What this process could have of a card, its own unused cache included."""
    let_go_of_cache(device)
    return int(torch.cuda.mem_get_info(device)[0])


def fitting_batch(config: Config, device: torch.device, free: int, world: World = ALONE) -> int:
    """The largest power of two whose steps fit into free memory with a margin, by real steps of the real network.

    Args:
        config: The run.
        device: Where it will train.
        free: Bytes.
        world: The ranks, each of which tries its own part of a step.

    Raises:
        UserError: Not even one patch fits.
    """
    most = max(min(MOST_PATCHES, config.data.sampling.patches_per_epoch) // world.size, 1)
    batch = min(world.gather(lambda: largest_power(_trial(config, device, free), most)))
    let_go_of_cache(device)
    if batch == 0:
        raise UserError(
            f"data.batch auto: not even one patch of {list(config.data.patch)} fits into {amount(free)} of the card: "
            "make data.patch or the model smaller, or free the card"
        )
    return batch * world.size


def _trial(config: Config, device: torch.device, free: int) -> Callable[[int], bool]:
    """What tells whether a batch fits."""
    precision = choose_precision(config.precision, device)
    state = fresh_state(config, device, precision, steps_per_epoch=1, prior=0.1)
    state.model.train()
    objective = build_objective(config.loss, config.loss.curriculum[-1].start_epoch if config.loss.curriculum else 0)
    step = partial(
        training_step,
        state.model,
        objective,
        state.optimiser,
        precision=precision,
        device=device,
        gradient_clip=config.training.gradient_clip,
        scaler=state.scaler,
    )

    def fits(batch: int) -> bool:
        samples = random_batch(Size(batch, config.data.patch), objective.requires)

        def steps() -> None:
            for _ in range(STEPS):
                step(samples)

        return finds_room(steps, state.optimiser, device) and held_bytes(device) <= (1 - MARGIN) * free

    return fits


def held_bytes(device: torch.device) -> int:
    """The most that PyTorch has taken of a card; 0 where there is none."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0


def let_go_of_cache(device: torch.device) -> None:
    """Give back what nothing uses, and count anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]  # nothing can be counted anew before
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def largest_power(fits: Callable[[int], bool], most: int) -> int:
    """The largest power of two up to `most` that fits, where what is smaller than one that fits does too; 0 if none."""
    found, batch = 0, 1
    while batch <= most and fits(batch):
        found, batch = batch, 2 * batch
    return found
