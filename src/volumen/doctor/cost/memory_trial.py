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

import torch

from volumen.config.schema import Config
from volumen.runtime import choose_device, choose_precision, proc_status, tune_allocator
from volumen.system.memory import is_out_of_memory, limit_growth, peak_bytes
from volumen.training.fitting import Size, random_batch
from volumen.training.objective import build_objective
from volumen.training.state import fresh_state
from volumen.training.step import training_step

STEPS = 2  # the optimiser's moments exist from the second step on


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
    samples = random_batch(Size(batch, config.data.patch), objective.requires)
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


def _peak_bytes(device: torch.device) -> int:
    """The most that was occupied: on CUDA what the allocator took of the card, on a CPU by the whole process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    status = proc_status("VmHWM")  # unlike ru_maxrss it does not know the parent's peak
    return status.get("VmHWM") or peak_bytes()


if __name__ == "__main__":
    main()
