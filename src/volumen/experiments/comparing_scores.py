"""Networks on whole held-out volumes by one protocol, once: what was found stays beside the run, case by case.

Each line of `comparison.jsonl` names the weights, the way to predict and the data set that it depends on; with others
it is found anew. A comparison that was stopped goes on where it stood, and a second one reads.
"""

import hashlib
import math
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Discriminator, Field
from typing_extensions import TypedDict

from volumen.config.dump import canonical, config_values
from volumen.config.schema import Config
from volumen.experiments.evaluate import RECORDED
from volumen.experiments.matched_share import BINS, REACH, LogitCounts, Matched, matched
from volumen.files import PARTIAL
from volumen.inference.predictor import weights_identity
from volumen.inference.recipe import Recipe
from volumen.losses import CompositeLoss
from volumen.metrics import leaderboard, overlap
from volumen.metrics.table import evaluated_values
from volumen.postprocess import probabilities_from_logits
from volumen.runs.folder import run_owner
from volumen.runs.kinds import ByTerm, Count, Seconds, Word, typed_lines
from volumen.runs.run import Run, Trained
from volumen.runtime import machine_description
from volumen.system.locks import hold
from volumen.system.output import Progress, Warn
from volumen.system.places import writable_folder
from volumen.system.records import append_record, mend_log
from volumen.training.objective import build_objective
from volumen.training.validate import loss_on_blocks

KEPT = "comparison.jsonl"
VERSION = 1
"""Of what a line holds; another one is found anew."""
Values = Mapping[str, float]
_Key = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Own(TypedDict):
    kind: Literal["own"]
    key: _Key
    case: Word
    values: ByTerm
    counts: Annotated[list[tuple[Count, Count, Count]], Field(max_length=BINS)]
    """Bin of the logits, and how many voxels of background and of surface it holds; empty bins are left out."""
    seconds: Seconds
    machine: Annotated[str, Field(max_length=300)]


class _AtMatched(TypedDict):
    kind: Literal["matched"]
    key: _Key
    case: Word
    place: Count
    values: ByTerm


class _Terms(TypedDict):
    kind: Literal["terms"]
    key: _Key
    case: Word
    total: float | None
    terms: ByTerm


_Line = Annotated[_Own | _AtMatched | _Terms, Discriminator("kind")]


@dataclass(frozen=True)
class NetworkScores:
    """What one network does on the volumes that its run held out."""

    weights: str
    """Their identity; empty where they were not looked at."""
    own: Mapping[str, Values]
    """By case and metric, at the run's own threshold and post-processing."""
    at_matched: Mapping[str, Values] = field(default_factory=dict)
    """The same for masks cut where the predicted share is the true one, without further steps."""
    point: Matched | None = None
    """Where that is."""
    terms: Mapping[str, Values] = field(default_factory=dict)
    """Raw terms of the reference objective, by case."""
    totals: Values = field(default_factory=dict)
    """Its total, by case."""
    parameters: int | None = None
    predict_seconds: float | None = None
    """Mean over the volumes."""
    machine: str = ""
    """That predicted them; empty where it was more than one."""


@dataclass(frozen=True)
class Objective:
    """An objective that every network is measured by: a configuration's, as it is at the end of a run."""

    name: str
    config: Config

    @property
    def key(self) -> str:
        """Equal objectives have equal keys."""
        return canonical({"loss": config_values(self.config.loss), "epoch": self.config.training.epochs - 1})

    def build(self) -> CompositeLoss:
        """The terms and their weights."""
        return build_objective(self.config.loss, self.config.training.epochs - 1)


class _Kept:
    """What a run's folder knows already, and what is added to it."""

    def __init__(self, run: Path, warn: Warn) -> None:
        self._path, self._owner = run / KEPT, run_owner(run)
        log = mend_log(self._path, owner=self._owner)
        faults = [f"{fault}: found anew" for fault in log.faults(str(self._path))]
        lines: list[Any] = typed_lines(log.records, (_Line,), str(self._path), faults)
        for fault in faults:
            warn(fault)
        self._lines = {(one["kind"], one["key"], one["case"]): one for one in lines}

    def get(self, kind: str, key: str, case: str) -> Any:
        """A line, or None."""
        return self._lines.get((kind, key, case))

    def add(self, line: Mapping[str, Any]) -> None:
        """Keep a line."""
        append_record(self._path, line, owner=self._owner)
        self._lines[line["kind"], line["key"], line["case"]] = dict(line)


def score_network(
    run: Run, trained: Trained, objective: Objective, *, name: str, progress: Progress, warn: Warn
) -> NetworkScores:
    """Score a network on the volumes that its run held out, or read what was found before.

    Args:
        run: The run; `comparison.jsonl` stays in its folder.
        trained: Its network, and how it predicts.
        objective: Measures it, whatever it was trained with.
        name: Of the run, for the progress.
        progress: Told what is worked on, and how many of how many tiles are done.
        warn: Told what is damaged and found anew.

    Raises:
        UserError: The data set is not there, another comparison works in the folder, or it cannot be written to.
    """
    fix = f"make the run folder {run.path} writable, compare a copy of it, or use --quick"
    writable_folder(run.path, fix)
    with hold(run.path, "compare", fix="wait until that comparison ends, or stop it first"):
        work = _Work(run, trained, objective, name, progress, _Kept(run.path, warn))
        try:
            return work.done()
        finally:
            work.discard()
            trained.model.cpu()  # one network at a time is on a card


class _Work:
    """The scores of one network, found or read."""

    def __init__(
        self, run: Run, trained: Trained, objective: Objective, name: str, progress: Progress, kept: _Kept
    ) -> None:
        self._dataset, self._kept, self._name, self._progress = run.dataset(trained), kept, name, progress
        learned = {*trained.data.train, *trained.data.before}
        self._cases = tuple(case for case in trained.data.validation if case not in learned)
        self._folder, self._trained, self._objective = run.path, trained, objective
        self._weights = weights_identity(trained.model)
        self._recipe: Recipe | None = None
        self._loss: CompositeLoss | None = None
        self._bins: dict[str, Path] = {}
        how = {
            "version": VERSION, "weights": self._weights, "dataset": self._dataset.identity,
            **self._opened.record("normalisation", "empty", *RECORDED),
        }  # fmt: skip
        self._key = _hash(how)
        self._terms_key = _hash({**how, "postprocessing": None, "objective": objective.key})

    @property
    def _opened(self) -> Recipe:
        if self._recipe is None:
            self._recipe = Recipe.of(self._trained.model, self._trained.config)
        return self._recipe

    def done(self) -> NetworkScores:
        """All of it."""
        for case in self._cases:
            self._look(case)
        own = {case: self._kept.get("own", self._key, case) for case in self._cases}
        point = matched([_counts(one["counts"]) for one in own.values()]) if own else None
        place = None if point is None or point.threshold is None else _place(point.threshold)
        if place is not None:
            for case in self._cases:
                self._cut(case, place)
        terms = {case: self._kept.get("terms", self._terms_key, case) for case in self._cases}
        machines = {one["machine"] for one in own.values()}
        seconds = [one["seconds"] for one in own.values()]
        return NetworkScores(
            self._weights,
            {case: _numbers(one["values"]) for case, one in own.items()},
            {case: _numbers(self._kept.get("matched", self._key, case)["values"]) for case in self._cases}
            if place is not None
            else {},
            point,
            {case: _numbers(one["terms"]) for case, one in terms.items()},
            _numbers({case: one["total"] for case, one in terms.items()}),
            sum(parameter.numel() for parameter in self._trained.model.parameters()),
            sum(seconds) / len(seconds) if seconds else None,
            machines.pop() if len(machines) == 1 else "",
        )

    def discard(self) -> None:
        """Remove what was set aside."""
        for path in self._bins.values():
            path.unlink(missing_ok=True)

    def _look(self, case: str) -> None:
        """Predict a volume, unless all that its logits tell is known."""
        known = [self._kept.get("own", self._key, case), self._kept.get("terms", self._terms_key, case)]
        if None not in known:
            return
        began = time.monotonic()
        logits = self._logits(case)
        seconds = time.monotonic() - began
        label, scan = np.asarray(self._dataset.label(case)), self._dataset.scan(case)
        if known[0] is None:
            values = _scored(self._opened.mask(probabilities_from_logits(logits), scan), label)
            counts = LogitCounts.of(logits, label)
            machine = machine_description(self._opened.predictor.device)
            self._kept.add(
                {"kind": "own", "key": self._key, "case": case, "values": values, "counts": _sparse(counts),
                 "seconds": seconds, "machine": machine}
            )  # fmt: skip
        if known[1] is None:
            self._loss = self._loss or self._objective.build()
            total, raw, _ = loss_on_blocks(self._loss, logits, np.asarray(self._dataset.lesson(case)[...]))
            plain = {name: _plain(value) for name, value in raw.items()}
            self._kept.add(
                {"kind": "terms", "key": self._terms_key, "case": case, "total": _plain(total), "terms": plain}
            )
        if self._kept.get("matched", self._key, case) is None:
            self._set_aside(case, logits)

    def _cut(self, case: str, place: int) -> None:
        """Score the mask of a volume at the matched share."""
        known = self._kept.get("matched", self._key, case)
        if known is not None and known["place"] == place:
            return
        bins = np.load(self._bins[case]) if case in self._bins else _binned(self._logits(case))
        mask, scan = (bins >= place).astype(np.uint8), self._dataset.scan(case)
        if scan is not None:
            mask[~scan] = 0
        self._progress(f"{self._name}: {case} at the matched share", 1, 1)
        values = _scored(mask, np.asarray(self._dataset.label(case)))
        self._kept.add({"kind": "matched", "key": self._key, "case": case, "place": place, "values": values})

    def _logits(self, case: str) -> NDArray[np.float32]:
        dataset, recipe = self._dataset, self._opened
        image = recipe.normalised(np.asarray(dataset.image(case)), dataset.case(case).statistics)
        return recipe.predictor.logits(
            image, dataset.scan(case), lambda done, of: self._progress(f"{self._name}: {case}", done, of)
        )

    def _set_aside(self, case: str, logits: NDArray[np.float32]) -> None:
        """Keep a volume on disk until the matched threshold is known; a process that dies leaves it to be swept up."""
        path = self._folder / f"{PARTIAL}{os.getpid()}-{secrets.token_hex(6)}"
        self._bins[case] = path
        with path.open("wb") as file:
            np.save(file, _binned(logits))


def _hash(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(dict(values)).encode()).hexdigest()


def _scored(mask: NDArray[np.uint8], label: NDArray[np.uint8]) -> dict[str, float | None]:
    values = evaluated_values(leaderboard(mask, label), overlap(mask, label))
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _numbers(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else float(value) for name, value in values.items()}


def _binned(logits: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Logits as the bins that `LogitCounts` counts, plane by plane."""
    bins = np.empty(logits.shape, np.uint16)
    for plane, target in zip(logits, bins, strict=True):
        target[...] = np.clip((plane + REACH) * (BINS / (2 * REACH)), 0, BINS - 1)
    return bins


def _place(threshold: float) -> int:
    """The bin that begins at a threshold of `matched`."""
    return round((math.log(threshold / (1 - threshold)) + REACH) * BINS / (2 * REACH))


def _sparse(counts: LogitCounts) -> list[tuple[int, int, int]]:
    filled = np.flatnonzero(counts.background + counts.surface)
    return list(zip(filled.tolist(), counts.background[filled].tolist(), counts.surface[filled].tolist(), strict=True))


def _counts(lines: Sequence[Sequence[int]]) -> LogitCounts:
    both = np.zeros((2, BINS), np.int64)
    for place, background, surface in lines:
        if place < BINS:
            both[:, place] = background, surface
    return LogitCounts(both[0], both[1])


def recorded_scores(validation: Mapping[str, Any]) -> NetworkScores:
    """What a run's own validation recorded: its metrics by case, at its own threshold; nothing is predicted."""
    cases = {case: _numbers(values) for case, values in (validation.get("cases") or {}).items()}
    return NetworkScores("", cases)
