"""One training step of a given batch in a process of its own, so that running out of memory costs nobody else.

    python -m volumen.doctor.cost.memory_trial < request.json

The request holds `config` (JSON text), `batch`, `surface_share` and `room_bytes`; the answer is one line of JSON:
`fits`, and where it does `peak_bytes` and `seconds`. The voxels are random and the sheets are planes: memory depends on
neither. The parts are the package's own.
"""

import json
import sys
import time
from typing import Any

import numpy as np
import torch

from volumen.config.schema import Config
from volumen.losses import PRECOMPUTE
from volumen.runtime import choose_device, choose_precision, proc_status, tune_allocator
from volumen.system.memory import limit_growth, peak_bytes
from volumen.training.objective import build_objective
from volumen.training.state import fresh_state
from volumen.training.step import training_step

STEPS = 2  # the optimiser's moments exist from the second step on
OUT_OF_MEMORY = (
    "not enough memory",
    "allocate memory",
    "out of memory",
    "bad_alloc",
    "resource temporarily unavailable",
    "failed to map segment",  # a library that no longer fits
    "could not get source code",  # what importing PyTorch ends in where no room is left for a file's text
)


def main() -> None:
    """Read the request, do the steps, print the answer."""
    request = json.load(sys.stdin)
    config = Config.model_validate_json(request["config"])
    device = choose_device(config.device)
    if device.type == "cpu":
        tune_allocator()
        if request["room_bytes"] is not None:
            _limit(request["room_bytes"])
    try:
        answer = {"fits": True, **_steps(config, int(request["batch"]), float(request["surface_share"]), device)}
    except (MemoryError, torch.OutOfMemoryError):
        answer = {"fits": False}
    except RuntimeError as error:
        if not is_out_of_memory(str(error)):
            raise
        answer = {"fits": False}
    print(json.dumps(answer))


def is_out_of_memory(message: str) -> bool:
    """Whether an error's text speaks of memory that was not there: PyTorch has a class for it on CUDA only."""
    return any(words in message.lower() for words in OUT_OF_MEMORY)


def _limit(room_bytes: int) -> None:
    """Let this process grow by no more than what is left of `room_bytes` beside what it occupies already.

    What counts as data holds more than what is resident, so the limit is set relative to it.
    """
    sizes = proc_status("VmData", "VmRSS")
    if sizes:
        limit_growth(sizes["VmData"] + max(room_bytes - sizes["VmRSS"], 0))


def _steps(config: Config, batch: int, share: float, device: torch.device) -> dict[str, Any]:
    precision = choose_precision(config.precision, device)
    state = fresh_state(config, device, precision, steps_per_epoch=1, prior=share)
    state.model.train()
    objective = build_objective(config.loss, config.loss.curriculum[-1].start_epoch if config.loss.curriculum else 0)
    samples = _batch(config, batch, objective.requires)
    seconds = float("inf")
    for _ in range(STEPS):
        began = time.perf_counter()
        training_step(
            state.model,
            objective,
            state.optimiser,
            samples,
            precision=precision,
            device=device,
            gradient_clip=config.training.gradient_clip,
            scaler=state.scaler,
        )
        seconds = min(seconds, time.perf_counter() - began)
    return {"peak_bytes": _peak_bytes(device), "seconds": seconds}


def _batch(config: Config, batch: int, precompute: tuple[str, ...]) -> dict[str, Any]:
    patch = config.data.patch
    target = np.zeros(patch, np.uint8)
    target[::8] = 1
    made = {name: PRECOMPUTE[name](target, np.ones(patch, bool)) for name in precompute}
    whole = {"target": target, "valid": np.ones(patch, bool), **made}
    repeated = {name: torch.from_numpy(np.stack([one] * batch)) for name, one in whole.items()}
    return {"image": torch.randn(batch, 1, *patch), **repeated}


def _peak_bytes(device: torch.device) -> int:
    """The most that was occupied: on CUDA what the allocator took of the card, on a CPU by the whole process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    status = proc_status("VmHWM")  # unlike ru_maxrss it does not know the parent's peak
    return status.get("VmHWM") or peak_bytes()


if __name__ == "__main__":
    main()
