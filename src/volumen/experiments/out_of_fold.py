"""Predictions of volumes that a model was not trained on, kept in a folder so that they are made once.

Each run predicts the cases that its own fold held out. Where several runs held out the same case, their answers are
averaged: that case then speaks for the ensemble.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from volumen.config.schema import Config
from volumen.data import PreparedDataset
from volumen.data.folds import load_folds
from volumen.errors import UserError
from volumen.experiments.predicting import predict_case, predictor_for
from volumen.files import atomic_path, write_atomically
from volumen.inference.ensemble import LEAST_PROBABILITY, Mean
from volumen.inference.files import Progress
from volumen.inference.predictor import weights_identity
from volumen.training.checkpoint import WHICH, load_for_inference

RECORD = "predictions.json"


@dataclass(frozen=True)
class Source:
    """Weights of a run."""

    run: Path
    which: str = "best"

    @property
    def name(self) -> str:
        """The run's name, and which weights where it is not the best ones."""
        return self.run.name if self.which == "best" else f"{self.run.name}:{self.which}"

    @staticmethod
    def of(text: str, which: str = "best") -> "Source":
        """From `RUN` or `RUN:WHICH`."""
        run, colon, own = text.rpartition(":")
        return Source(Path(run), own) if colon and own in WHICH else Source(Path(text), which)


@dataclass(frozen=True)
class HeldOut:
    """One held-out volume: its truth, and what the models that never saw it say."""

    id: str
    scroll_id: str
    dataset: PreparedDataset
    files: Mapping[str, Path]
    """float16 probabilities [Z, Y, X] by the name of their source."""

    @property
    def group(self) -> str:
        """Cases of one group are held out together: by the same sources."""
        return " + ".join(self.files)

    @property
    def label(self) -> NDArray[np.uint8]:
        """Canonical codes [Z, Y, X]."""
        return np.asarray(self.dataset.label(self.id))

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """The mean over the sources, float32 [Z, Y, X]."""
        return self.mixed(dict.fromkeys(self.files, 1.0))

    def mixed(self, weights: Mapping[str, float], mean: Mean = "probability") -> NDArray[np.float32]:
        """The weighted mean of some sources' answers as probabilities, float32 [Z, Y, X].

        Args:
            weights: By name of the source; their sum is made 1.
            mean: Of probabilities, or of logits.
        """
        total = np.zeros(self.dataset.case(self.id).shape, np.float32)
        for name, weight in weights.items():
            part = np.load(self.files[name]).astype(np.float32)
            if mean == "logit":
                part = logit(np.clip(part, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))
            total += np.float32(weight / sum(weights.values())) * part
        mixed: NDArray[np.float32] = expit(total) if mean == "logit" else total
        return mixed


def predict_out_of_fold(
    sources: Sequence[Source],
    folder: Path,
    *,
    overrides: Sequence[str] = (),
    progress: Progress = lambda name, done, of: None,
) -> tuple[HeldOut, ...]:
    """Predict what each source's fold held out; what lies in the folder from the same weights and settings is kept.

    Args:
        sources: Weights of runs that were trained on folds of one prepared data set.
        folder: Where the probabilities go.
        overrides: Other settings of prediction.
        progress: Told the source and case, and how many of how many tiles are done.

    Raises:
        UserError: No source, other data sets, or two sources of one name.
    """
    if not sources:
        raise UserError("give at least one run")
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise UserError(f"two runs have one name ({', '.join(sorted(names))}): rename a folder")
    found: dict[str, dict[str, Path]] = {}
    datasets: dict[str, PreparedDataset] = {}
    for source in sources:
        model, config = load_for_inference(source.run, source.which, overrides)
        dataset = PreparedDataset.open(Path(config.data.dataset))
        datasets[dataset.identity] = dataset
        cases = load_folds(config.data.folds, dataset).fold(config.data.fold).validation
        place = folder / source.name.replace(":", "-")
        for case_id, file in _predict_run(model, config, dataset, cases, place, source.name, progress).items():
            found.setdefault(case_id, {})[source.name] = file
    if len(datasets) > 1:
        raise UserError("the runs were trained on different prepared data sets: take them apart")
    (dataset,) = datasets.values()
    return tuple(
        HeldOut(case_id, dataset.case(case_id).scroll_id, dataset, files) for case_id, files in sorted(found.items())
    )


def _predict_run(
    model: Any,
    config: Config,
    dataset: PreparedDataset,
    cases: Sequence[str],
    folder: Path,
    name: str,
    progress: Progress,
) -> dict[str, Path]:
    """Files of a run's held-out cases."""
    predictor = predictor_for(model, config)
    settings = {
        "weights_sha256": weights_identity(model),
        "dataset": dataset.identity,
        "normalisation": config.data.normalisation,
        "tile": list(config.tile),
        "inference": config.inference.model_dump(mode="json"),
        "engine": predictor.engine_name,
        "precision": predictor.precision.name,
    }
    _begin(folder, settings)
    files = {}
    for case_id in cases:
        file = files[case_id] = folder / f"{case_id}.npy"
        if file.is_file():
            continue
        told = _named(progress, f"{name}: {case_id}")
        probabilities = predict_case(predictor, dataset, case_id, config.data.normalisation, told)
        with atomic_path(file) as temporary, temporary.open("wb") as stream:
            np.save(stream, probabilities.astype(np.float16))
    return files


def _begin(folder: Path, settings: Mapping[str, Any]) -> None:
    """Empty the folder of what other weights or settings predicted."""
    record, text = folder / RECORD, json.dumps(settings, indent=1, sort_keys=True)
    folder.mkdir(parents=True, exist_ok=True)
    if record.is_file() and record.read_text(encoding="utf-8") != text:
        for file in folder.glob("*.npy"):
            file.unlink()
    write_atomically(record, text)


def _named(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, of: progress(name, done, of)


def identity_of(cases: Sequence[HeldOut]) -> str:
    """SHA-256 of what the predictions were made of, as it stands in the folders' records."""
    records = sorted({file.parent / RECORD for case in cases for file in case.files.values()})
    digest = hashlib.sha256()
    for record in records:
        digest.update(record.read_bytes())
    digest.update(" ".join(case.id for case in cases).encode())
    return digest.hexdigest()
