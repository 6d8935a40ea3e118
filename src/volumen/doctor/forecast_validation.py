"""What a validation takes: real ones of as many held-out volumes as there is time for, scaled by their voxels.

The network has learned nothing yet, and an empty mask is scored faster than one with sheets. So the volumes are really
predicted, and what is scored is the truth, moved by two voxels.
"""

import math
import time
from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from volumen.data.labels import SURFACE
from volumen.inference.predictor import Predictor
from volumen.training.budget import guessed_validation
from volumen.training.regions import validation_regions
from volumen.training.session import Session
from volumen.training.validate import mask_metrics, validate

VALIDATION_SECONDS = 20.0
"""After which no other volume is begun."""
LONGEST = 3.0
"""A first volume that is expected to take this many times as long is not begun at all."""
_CORNER = (slice(0, 32),) * 3


class _Imitation:
    """A predictor that does all the work, and gives logits of sheets in place of what the network gives."""

    def __init__(self, session: Session, case: str) -> None:
        self._predictor, self._labels = session.predictor, _labels(session, case)
        self.device = self._predictor.device

    def logits(self, image: NDArray[np.float32], empty: NDArray[np.generic] | None) -> NDArray[np.float32]:
        """Of the next region."""
        self._predictor.logits(image, empty)  # type: ignore[arg-type]
        return np.where(np.roll(next(self._labels), 2, axis=0) == SURFACE, 2.0, -2.0).astype(np.float32)


def _labels(session: Session, case: str) -> Iterator[NDArray[np.uint8]]:
    lesson = session.dataset.lesson(case)
    for region in validation_regions(session.config, lesson, 0, 0):
        yield np.asarray(lesson[region])


def time_validation(session: Session, step_seconds: float) -> tuple[float, float] | None:
    """Wall and processor seconds of a validation of all held-out volumes; None where one volume takes too long.

    Args:
        session: Whose state is any.
        step_seconds: Of a training step, by which one volume's time is guessed beforehand.
    """
    config, dataset = session.config, session.dataset
    voxels = {case: sum(label.size for label in _labels(session, case)) for case in session.held_out}
    order = sorted(session.held_out, key=lambda case: (voxels[case], case))
    if guessed_validation(config, [dataset.case(order[0]).shape], step_seconds) > LONGEST * VALIDATION_SECONDS:
        return None
    label = next(_labels(session, order[0]))[_CORNER]
    exact = config.training.selection_metric in ("leaderboard", "topo")
    mask_metrics((label == SURFACE).astype(np.uint8), label, full=exact)  # compiles what is compiled once
    session.state.model.eval()
    spent = used = done = 0.0
    for case in order:
        if spent > VALIDATION_SECONDS:
            break
        imitation = cast("Predictor", _Imitation(session, case))
        wall, cpu = time.perf_counter(), time.process_time()
        validate(imitation, session.state.objective(), dataset, (case,), config)
        if session.device.type == "cuda":
            torch.cuda.synchronize(session.device)
        spent, used = spent + time.perf_counter() - wall, used + time.process_time() - cpu
        done += voxels[case]
    factor = math.fsum(voxels.values()) / done
    return spent * factor, used * factor
