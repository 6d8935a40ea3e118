"""What a folder of folds holds: whose folds they are (`folds_training.json`), and every process that worked on them.

The run folders `fold0`, `fold1`, ... stand beside these, the held-out predictions in `held_out/`, logs in `logs/`.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from volumen.config.compare import diff_configs, factors_of
from volumen.config.schema import Config
from volumen.data.folds import Fold
from volumen.errors import DamagedError, UserError
from volumen.experiments.evaluation_file import load_evaluation
from volumen.runs.folder import CHECKPOINTS, CONFIG, run_config, run_owner
from volumen.runs.records import read_status
from volumen.system.attempts import Attempt
from volumen.system.names import some
from volumen.system.records import append_record, read_log, read_record, typed, write_record

RECORD, ATTEMPTS, SUMMARY = "folds_training.json", "attempts.jsonl", "summary.json"
LOGS, HELD_OUT, SCORED = "logs", "held_out", "scored.json"
WORK = "folds"
"""The work by which the folder is held."""
TRAINED = ("finished", "early_stopping", "out_of_time")
"""States of a run that has nothing left to train."""
_VERSION = 1
_FIX = "put the file back, or train into another folder with --out"


@dataclass(frozen=True)
class ClusterJob:
    """A fold that was handed to a cluster."""

    cluster: str
    id: str


@dataclass(frozen=True)
class FoldsRecord:
    """Whose folds a folder holds."""

    version: int
    name: str
    source: str
    """The configuration's file or preset."""
    dataset: str
    """Identity of the prepared data set."""
    folds: tuple[str, ...]
    """What identifies each fold of the folds file: a hash over its cases."""
    held_out: tuple[int, ...]
    """How many cases each fold holds out."""
    wanted: tuple[int, ...] = ()
    """The folds that somebody asked for."""
    held_back: str = ""
    """Why the folds after the first were not trained."""
    jobs: dict[str, ClusterJob] = field(default_factory=dict)
    """By the fold's number."""

    @classmethod
    def read(cls, folder: Path) -> "FoldsRecord | None":
        """The record of a folder; None where there is none."""
        path = folder / RECORD
        if not path.exists():
            return None
        record: FoldsRecord = read_record(path, cls, _FIX)
        if record.version != _VERSION:
            raise UserError(f"{path} is of version {record.version}, expected {_VERSION}: {_FIX}")
        return record

    @classmethod
    def of(cls, config: Config, source: str, dataset: str, folds: Sequence[Fold]) -> "FoldsRecord":
        """The record of folds that are about to be trained."""
        held_out = tuple(len(fold.validation) for fold in folds)
        return cls(_VERSION, config.name, source, dataset, tuple(map(fold_identity, folds)), held_out)

    def write(self, folder: Path) -> None:
        """Replace the record."""
        write_record(folder / RECORD, asdict(self))

    def with_wanted(self, folds: Sequence[int]) -> "FoldsRecord":
        """More folds are asked for."""
        return replace(self, wanted=tuple(sorted({*self.wanted, *folds})))


def fold_identity(fold: Fold) -> str:
    """A hash over the cases that a fold trains on and those that it holds out."""
    text = json.dumps([sorted(fold.train), sorted(fold.validation)])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def fold_name(fold: int) -> str:
    """Of its run folder and of its job."""
    return f"fold{fold}"


def refuse_others(folder: Path, before: FoldsRecord | None, now: FoldsRecord, configs: dict[int, Config]) -> None:
    """Refuse to go on with folds of another configuration, data set or division, and say what differs.

    Args:
        folder: The folder.
        before: What it holds.
        now: What is to be trained.
        configs: The configuration of each fold that may lie there.
    """
    fix = "go on with what they were begun with, or train into another folder with --out"
    if before is None:
        there = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
        if there:
            raise UserError(
                f"{folder} holds {some(sorted(there))} and is no folder of trained folds: choose another one with --out"
            )
        return
    if before.dataset != now.dataset:
        raise UserError(
            f"{folder} holds folds of another data set (identity {before.dataset[:12]}, the configuration's is "
            f"{now.dataset[:12]}): {fix}"
        )
    if before.folds != now.folds:
        pairs = zip(before.folds, now.folds, strict=False)
        other = [str(number) for number, (one, another) in enumerate(pairs) if one != another]
        what = f"other cases are held out in fold {some(other)}" if other else "there are more or fewer folds"
        raise UserError(f"{folder} holds folds of another division ({what}): {fix}")
    for fold, config in configs.items():
        run = folder / fold_name(fold)
        if not is_begun(run):
            continue
        changed = [each for changes in factors_of(diff_configs(run_config(run), config)).values() for each in changes]
        if changed:
            said = "; ".join(each.in_words() for each in changed[:5])
            raise UserError(f"{run} was begun with another configuration ({said}): {fix}")


def is_begun(run: Path) -> bool:
    """Whether a run has come to a checkpoint; anything less makes way for a new one."""
    return (run / CONFIG).is_file() and any((run / CHECKPOINTS).glob("*.pt"))


def status_of(run: Path) -> dict[str, Any]:
    """What a run says of itself; empty where it has not begun or its status is damaged."""
    if not (run / CONFIG).is_file():
        return {}
    try:
        return read_status(run) or {}
    except DamagedError:
        return {}


@dataclass(frozen=True)
class _Scored:
    run: str
    step: int


def note_scored(folder: Path, run: Path) -> None:
    """Write down that the held-out volumes of a run are predicted and scored, and at which of its steps."""
    scored = _Scored(run_owner(run), int(status_of(run).get("step", 0)))
    write_record(folder / HELD_OUT / run.name / SCORED, asdict(scored))


def is_scored(folder: Path, run: Path) -> bool:
    """Whether that was done, and the run was not trained on since."""
    path = folder / HELD_OUT / run.name / SCORED
    if not path.is_file():
        return False
    try:
        scored: _Scored = read_record(path, _Scored, _FIX)
        load_evaluation(run)
    except UserError:
        return False
    return scored == _Scored(run_owner(run), int(status_of(run).get("step", 0)))


def note_attempt(folder: Path, fold: str, kind: str, attempt: Attempt | None = None, why: str = "") -> None:
    """Add to the log of processes: one `began` or `ended`, or a fold was `given_up` without one."""
    values = {} if attempt is None else {key: value for key, value in asdict(attempt).items() if key != "job"}
    record = {"kind": kind, "fold": fold, "time": time.time(), **values, **({"why": why} if why else {})}
    append_record(folder / ATTEMPTS, record)


def read_attempts(folder: Path) -> tuple[dict[str, list[Attempt]], dict[str, str], tuple[str, ...]]:
    """The processes of each fold, why each was given up last, and what is wrong with the log.

    A process whose end nobody wrote down has no exit code: its supervisor was killed, or it still runs.
    """
    log = read_log(folder / ATTEMPTS)
    found: dict[str, list[Attempt]] = {}
    given_up: dict[str, str] = {}
    for record in log.records:
        fold = str(record["fold"])
        if record["kind"] == "given_up":
            given_up[fold] = str(record["why"])
            continue
        given_up.pop(fold, None)
        names = ("step", "began", "slot", "pid", "seconds", "code", "said")
        values = {name: record.get(name) for name in names}
        attempt: Attempt = typed({"job": fold, **values}, Attempt, folder / ATTEMPTS, _FIX)
        attempts = found.setdefault(fold, [])
        if record["kind"] == "ended" and attempts and attempts[-1].began == attempt.began:
            attempts.pop()
        attempts.append(attempt)
    return found, given_up, log.faults(str(folder / ATTEMPTS))
