"""Run folders made by hand, with sealed records as a training and an evaluation leave them."""

import secrets
from pathlib import Path
from typing import Any

import numpy as np

from volumen.config.load import load_config
from volumen.data.pictures import encode_png
from volumen.experiments.evaluation_file import Pictures, write_evaluation
from volumen.experiments.scoring import Evaluation, LabelledCase, evaluate_masks
from volumen.runs.folder import RunFolder, run_owner
from volumen.system.records import append_record, write_record


def train_record(epoch: int, **changes: object) -> dict[str, Any]:
    terms = {"soft_dice": 0.9 / (epoch + 1), "cross_entropy": 0.4}
    record = {
        "step": 10 * (epoch + 1), "epoch": epoch, "kind": "train", "total": sum(terms.values()), "terms": terms,
        "weighted": terms, "learning_rate": 1e-3, "gradient_norm": 1.5, "gradient_norm_maximum": 4.0,
        "predicted_share": 0.2, "true_share": 0.1, "seconds": 3.0, "loader_seconds": 0.1, "memory_gb": 1.0,
    }  # fmt: skip
    return record | changes


def validation_record(epoch: int, **changes: object) -> dict[str, Any]:
    metrics = {"dice": 0.1 * epoch, "surface_dice": 0.5, "voi": 0.4, "leaderboard_quick": 0.3, "accuracy": 0.9,
               "precision": 0.4, "recall": 0.5, "iou": 0.2, "predicted_share": 0.2, "true_share": 0.1}  # fmt: skip
    return train_record(epoch) | {"kind": "validation", "metrics": metrics, "weights_of": "average"} | changes


def status_record(**changes: object) -> dict[str, Any]:
    best = {"metric": "surface_dice", "value": 0.5, "epoch": 3}
    status = {"state": "finished", "epoch": 5, "planned_epochs": 5, "best": best, "seconds": 725.0, "seconds_left": 0}
    return status | changes


def new_run(folder: Path, *overrides: str) -> Path:
    """A run that has just begun."""
    folder.mkdir(parents=True)
    config = load_config("preset:default", ["data.dataset=somewhere", "name=tale-1", *overrides]).config
    RunFolder(folder, secrets.token_hex(8)).write_config(config)
    return folder


def log(run: Path, name: str, record: dict[str, Any]) -> None:
    """One line more in a log of a run."""
    append_record(run / name, record, owner=run_owner(run))


def status(run: Path, record: dict[str, Any]) -> None:
    """The status of a run."""
    write_record(run / "status.json", record, owner=run_owner(run))


def leave_evaluation(run: Path, evaluation: Evaluation, pictures: tuple[str, ...]) -> Evaluation:
    """An evaluation in a run, with a small picture for each of these cases."""
    (run / "evaluation" / "slices").mkdir(parents=True)
    kept = Pictures(run)
    for name in pictures:
        kept.add(name, encode_png(np.zeros((4, 4, 3), dtype=np.uint8)))
    kept.publish()
    whole = Evaluation(evaluation.cases, evaluation.settings, evaluation.notes, evaluation.verdicts,
                       evaluation.label_range, kept.hashes)  # fmt: skip
    write_evaluation(run, whole)
    return whole


def fill(run: Path) -> Evaluation:
    """A whole run of five epochs, one event, a status and an evaluation of two cases."""
    for epoch in range(5):
        log(run, "metrics.jsonl", train_record(epoch))
        log(run, "metrics.jsonl", validation_record(epoch))
    cause = {"cause": "<b>loss</b> & more", "total": 1.25}
    log(run, "events.jsonl", {"step": 20, "epoch": 1, "time": 0.0, "kind": "rollback", **cause})
    status(run, status_record())
    label = np.zeros((8, 8, 8), dtype=np.uint8)
    label[3:5] = 1
    mask = np.roll(label, 1, axis=0)
    cases = [LabelledCase("c<1>", "s1", label), LabelledCase("c2", "s2", label)]
    evaluation = evaluate_masks(cases, {"c<1>": mask, "c2": np.ones_like(mask)}, {"which": "best", "tile": [8, 8, 8]})
    return leave_evaluation(run, evaluation, ("c2",))
