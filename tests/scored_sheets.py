"""Evaluations of noisy thin sheets with their post-processing, for whoever shows or judges them."""

import json

import numpy as np

from volumen.config.postprocessing import Postprocessing
from volumen.experiments.scoring import CaseResult, Evaluation, LabelledCase, score_case
from volumen.experiments.step_scores import score_steps


def pipeline(*steps: dict[str, object]) -> Postprocessing:
    return Postprocessing.model_validate_json(json.dumps({"steps": steps}))


def sheets(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and label [24, 24, 24] of two thin sheets, noisy, with holes; a corner is not labelled."""
    random = np.random.default_rng(seed)
    label = np.zeros((24, 24, 24), np.uint8)
    label[:, 5 + seed % 3 : 7 + seed % 3] = 1
    label[:, 15:17] = 1
    probabilities = np.clip(0.8 * label + random.normal(0.1, 0.08, label.shape), 0, 1).astype(np.float32)
    probabilities[random.random(label.shape) < 0.02] = 0.05
    label[:4, :, 20:] = 2
    return probabilities, label


def evaluation(settings: Postprocessing, volumes: int = 4) -> Evaluation:
    results: list[CaseResult] = []
    for seed in range(volumes):
        probabilities, label = sheets(seed)
        scored = score_steps(probabilities, settings, label)
        case = LabelledCase(f"case{seed}", "scroll", label)
        results.append(score_case(case, scored.mask, probabilities, score=scored.score, steps=scored.steps))
    return Evaluation(tuple(results), {"postprocessing": settings.model_dump()})


HARMFUL = {"kind": "open", "radius_voxels": [2, 2, 2]}  # no sheet of two voxels survives it
