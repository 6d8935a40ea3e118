"""Held-out volumes with what was said of them by models that never saw them, kept in folders; needs no torch.

A folder of predictions holds float16 arrays, and a record of what made them and what each of them hashes to. An array
that is not what was written never becomes a score: found at the start of a command it is predicted again, found later
it ends the command.
"""

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from volumen.data.dataset import PreparedDataset
from volumen.errors import DamagedError, UserError
from volumen.files import strict_json, write_atomically
from volumen.postprocess import LEAST_PROBABILITY, probabilities_from_logits
from volumen.system.locks import sweep
from volumen.system.names import checked_name
from volumen.system.output import Warn
from volumen.system.records import read_bounded, read_record, write_record

if TYPE_CHECKING:
    from volumen.inference.ensemble import Mean

RECORD = "predictions.json"
Shape = Sequence[int]
_AGAIN = "start the same command again, which predicts it anew"


@dataclass(frozen=True)
class Kept:
    """A prediction in a file."""

    path: Path
    sha256: str
    """Of the file's bytes as they were written."""

    def load(self, shape: Shape) -> NDArray[np.float16]:
        """Probabilities [Z, Y, X] of a shape, read-only, from the very bytes that were verified.

        Raises:
            DamagedError: The file is gone, or is not what was written.
        """
        head = _head(shape)
        size = len(head) + 2 * math.prod(shape)
        content = read_bounded(self.path, _AGAIN, size)
        if len(content) != size:
            raise DamagedError(f"{self.path} is damaged: it has {len(content)} bytes, expected {size}: {_AGAIN}")
        if hashlib.sha256(content).hexdigest() != self.sha256 or not content.startswith(head):
            raise DamagedError(f"{self.path} is damaged: its SHA-256 is not the recorded one: {_AGAIN}")
        return np.frombuffer(content, np.float16, offset=len(head)).reshape(tuple(shape))


def write_prediction(path: Path, probabilities: NDArray[np.floating[Any]]) -> Kept:
    """Write probabilities [Z, Y, X] as a float16 array; an `OSError` leaves what was there before."""
    content = _head(probabilities.shape) + probabilities.astype(np.float16).tobytes()
    write_atomically(path, content)
    return Kept(path, hashlib.sha256(content).hexdigest())


def _head(shape: Shape) -> bytes:
    """What stands in a .npy file before the values."""
    stream = io.BytesIO()
    values = {"descr": "<f2", "fortran_order": False, "shape": tuple(int(side) for side in shape)}
    np.lib.format.write_array_header_1_0(stream, values)
    return stream.getvalue()


@dataclass(frozen=True)
class _Record:
    settings: dict[str, Any]
    files: dict[str, str]
    """SHA-256 by case id."""


class PredictionFolder:
    """The predictions of one model with one way to predict; what other weights or settings left there is removed.

    Args:
        folder: Made if need be.
        settings: All that the predictions depend on.
        shapes: Of the volumes that are wanted, by case id.
        warn: Told what is damaged and has to be predicted again.

    Raises:
        UserError: A case id that is no name, or a folder with arrays that no record tells of.
        OSError: No room, or no permission.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], shapes: Mapping[str, Shape], warn: Warn) -> None:
        self.folder, self.settings = folder, strict_json(settings)
        self._shapes = {checked_name(case_id, "case id", "the data set"): shape for case_id, shape in shapes.items()}
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        self.kept: dict[str, Kept] = {}
        recorded = self._recorded(warn)
        for case_id in [name for name in self._shapes if name in recorded]:
            kept = Kept(self._path(case_id), recorded[case_id])
            try:
                kept.load(self._shapes[case_id])
            except DamagedError as error:
                warn(f"{str(error).removesuffix(f': {_AGAIN}')}: it is predicted again")
            else:
                self.kept[case_id] = kept
        self._write()

    def add(self, case_id: str, probabilities: NDArray[np.floating[Any]]) -> None:
        """Keep the prediction of a case."""
        self.kept[case_id] = write_prediction(self._path(case_id), probabilities)
        self._write()

    def _recorded(self, warn: Warn) -> dict[str, str]:
        """SHA-256 of what the folder holds from these settings, by case id."""
        path = self.folder / RECORD
        if not path.is_file():
            if any(self.folder.glob("*.npy")):
                raise UserError(
                    f"{self.folder} holds arrays but no {RECORD}, so that nobody knows what made them: choose another "
                    "folder, or remove this one"
                )
            return {}
        try:
            record: _Record = read_record(path, _Record, "all of it is predicted again")
        except DamagedError as error:
            warn(str(error))
            return {}
        if record.settings == self.settings:
            return record.files
        for name in record.files:
            (self.folder / f"{checked_name(name, 'case id', path)}.npy").unlink(missing_ok=True)
        return {}

    def _path(self, case_id: str) -> Path:
        return self.folder / f"{case_id}.npy"

    def _write(self) -> None:
        files = {case_id: kept.sha256 for case_id, kept in sorted(self.kept.items())}
        write_record(self.folder / RECORD, {"settings": self.settings, "files": files})


@dataclass(frozen=True)
class HeldOut:
    """One held-out volume: its truth, and what the models that never saw it say."""

    id: str
    scroll_id: str
    dataset: PreparedDataset
    files: Mapping[str, Kept]
    """float16 probabilities [Z, Y, X] by the name of their source."""

    @property
    def group(self) -> str:
        """Cases of one group are held out together: by the same sources."""
        return " + ".join(sorted(self.files))

    @property
    def label(self) -> NDArray[np.uint8]:
        """Canonical codes [Z, Y, X]."""
        return np.asarray(self.dataset.label(self.id))

    @property
    def scan(self) -> NDArray[np.bool_] | None:
        """Where the scan holds something, [Z, Y, X]; None: everywhere."""
        return self.dataset.scan(self.id)

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """The mean over the sources, float32 [Z, Y, X]."""
        return self.mixed(dict.fromkeys(self.files, 1.0))

    def mixed(self, weights: Mapping[str, float], mean: "Mean" = "probability") -> NDArray[np.float32]:
        """The mean of some sources' answers as probabilities, float32 [Z, Y, X]; the sum of the weights is made 1.

        Raises:
            UserError: Weights that are not finite, negative, or all 0.
            DamagedError: A prediction is not what was written.
        """
        whole = sum(weights.values())
        if any(not 0 <= weight < math.inf for weight in weights.values()) or not 0 < whole < math.inf:
            raise UserError(f"weights of a mean must be finite, not negative, and not all 0: got {dict(weights)}")
        shape = self.dataset.case(self.id).shape
        total = np.zeros(shape, np.float32)
        for name, weight in sorted(weights.items()):  # a sum depends on its order
            part = self.files[name].load(shape).astype(np.float32)
            if mean == "logit":
                part = logit(np.clip(part, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))
            total += np.float32(weight / whole) * part
        mixed: NDArray[np.float32] = probabilities_from_logits(total) if mean == "logit" else total
        return mixed


def identity_of(cases: Sequence[HeldOut]) -> str:
    """SHA-256 over the predictions themselves and the data set: what a score of them depends on."""
    files = [[case.id, name, kept.sha256] for case in cases for name, kept in case.files.items()]
    text = json.dumps([sorted(files), sorted({case.dataset.identity for case in cases})])
    return hashlib.sha256(text.encode()).hexdigest()
