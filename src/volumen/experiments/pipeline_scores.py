"""Scores of pipelines on held-out volumes, each computed once and shared among the processes that ask for it."""

import math
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from volumen import __version__
from volumen.config.dump import canonical
from volumen.config.postprocessing import Postprocessing
from volumen.experiments.held_out import HeldOut, identity_of
from volumen.metrics import leaderboard
from volumen.postprocess import apply_pipeline
from volumen.system.records import append_record, mend_log, read_log_from

SCORES = "scores"
KEPT_BYTES = 2e9  # of probabilities and labels, in each process
Warn = Callable[[str], None]


class Scorer:
    """Scores pipelines on held-out cases, each pair once; what was computed stands in a folder.

    Args:
        cases: The held-out cases; scores of other predictions do not count.
        folder: For the scores, one log a process.
        threads: Of the metric; None takes the cores there are.
        warn: Told what is damaged and has to be computed again.
    """

    def __init__(
        self,
        cases: Sequence[HeldOut],
        folder: Path,
        threads: int | None = None,
        warn: Warn = lambda sentence: None,
    ) -> None:
        self.cases = {case.id: case for case in cases}
        self.folder, self.threads, self.warn = folder, threads, warn
        self.owner = f"{__version__} {identity_of(cases)}"
        folder.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, float] = {}
        self._read: dict[Path, int] = {}
        largest = max(math.prod(case.dataset.case(case.id).shape) for case in cases)
        kept = lru_cache(maxsize=max(1, int(KEPT_BYTES / (6 * largest))))
        self._volumes = kept(
            lambda name: (self.cases[name].probabilities, self.cases[name].label, self.cases[name].scan)
        )

    def score(self, settings: Postprocessing, case_id: str) -> float:
        """Leaderboard score of a pipeline on a case.

        Raises:
            DamagedError: The case's prediction is not what was written.
            OSError: The score cannot be kept, such as on a full disk.
        """
        key = f"{case_id} {canonical(settings.model_dump(mode='json'))}"
        if key not in self._known:
            self._reload()
        if key not in self._known:
            probabilities, label, scan = self._volumes(case_id)
            mask = apply_pipeline(probabilities, settings, scan)
            score = leaderboard(mask, label, threads=self.threads).score
            append_record(self.folder / f"{os.getpid()}.jsonl", {"key": key, "score": score}, owner=self.owner)
            self._known[key] = score
        return self._known[key]

    def mean(self, settings: Postprocessing, case_ids: Sequence[str]) -> float:
        """Mean score over cases."""
        return float(np.mean([self.score(settings, case_id) for case_id in case_ids]))

    def mend(self) -> None:
        """Say and drop what is damaged; for the one process that works in the folder, before others do."""
        for path in sorted(self.folder.glob("*.jsonl")):
            faults = mend_log(path, owner=self.owner).faults(f"{path}")
            if faults:
                self.warn(f"{'; '.join(faults)}: these scores are computed again")

    def _reload(self) -> None:
        """Read what other processes have added."""
        for path in sorted(self.folder.glob("*.jsonl")):
            records, damaged, self._read[path] = read_log_from(path, self._read.get(path, 0), owner=self.owner)
            if damaged:
                self.warn(f"{path} is damaged in {damaged} new lines: these scores are computed again")
            self._known |= {str(record["key"]): float(record["score"]) for record in records}
