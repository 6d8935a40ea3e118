"""Held-out volumes with what was said of them by models that never saw them; whoever only scores needs no torch."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from volumen.data.dataset import PreparedDataset
from volumen.errors import UserError
from volumen.experiments.kept_predictions import Kept

if TYPE_CHECKING:
    from volumen.inference.ensemble import Mean


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
        """The weighted mean of some sources' answers as probabilities, float32 [Z, Y, X].

        Args:
            weights: By name of the source; their sum is made 1.
            mean: Of probabilities, or of logits.

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
                from volumen.inference.ensemble import LEAST_PROBABILITY

                part = logit(np.clip(part, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))
            total += np.float32(weight / whole) * part
        mixed: NDArray[np.float32] = expit(total) if mean == "logit" else total
        return mixed


def identity_of(cases: Sequence[HeldOut]) -> str:
    """SHA-256 over the predictions themselves and the data set: what a score of them depends on."""
    files = [[case.id, name, kept.sha256] for case in cases for name, kept in case.files.items()]
    text = json.dumps([sorted(files), sorted({case.dataset.identity for case in cases})])
    return hashlib.sha256(text.encode()).hexdigest()
