"""Divide a data set for cross-validation: by scroll where there are several, else by volume.

Volumes of one scroll are alike; a fold that trains on some and validates on others measures memory, not skill. The
folds are written to a file once and tied to the data set they were made for, so that every run means the same thing by
"fold 2".
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from volumen.data.dataset import Case, PreparedDataset
from volumen.data.randomness import generator
from volumen.errors import UserError
from volumen.system.names import checked_name
from volumen.system.output import counted
from volumen.system.records import open_record, parse_json, read_bounded, typed, write_record

FILE = "folds.json"
FORMAT_VERSION = 1
DEFAULT_COUNT = 5

By = Literal["scroll", "volume"]


@dataclass(frozen=True)
class Fold:
    """Case ids of one division."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True)
class Folds:
    """All divisions of a data set; validation parts are disjoint and cover every labelled case."""

    dataset: str
    """Identity of the data set they divide."""
    by: By
    seed: int
    folds: tuple[Fold, ...]
    path: str = FILE
    """File they were read from; named in errors."""

    def fold(self, number: int) -> Fold:
        """One division.

        Raises:
            UserError: there is no fold of that number.
        """
        if not 0 <= number < len(self.folds):
            last = len(self.folds) - 1
            raise UserError(
                f"fold {number} does not exist in {Path(self.path).name} (it has 0 to {last}): use --fold 0..{last}"
            )
        return self.folds[number]

    def to_json(self) -> dict[str, Any]:
        """Plain mapping for the file."""
        return {
            "version": FORMAT_VERSION,
            "dataset": self.dataset,
            "by": self.by,
            "seed": self.seed,
            "folds": [asdict(fold) for fold in self.folds],
        }


def make_folds(
    prepared: PreparedDataset, count: int | None = None, by: Literal["auto", "scroll", "volume"] = "auto", seed: int = 0
) -> tuple[Folds, tuple[str, ...]]:
    """Divide the labelled cases; the folds, and statements about what was chosen.

    Groups (scrolls, or single volumes) are dealt out largest first to the fold that has least, by surface voxels and
    size together; the seed decides among equals and numbers the folds. Single volumes are also kept even in number.

    Args:
        prepared: the data set.
        count: number of folds; None means 5, or as many as there are groups.
        by: `auto` groups by scroll where there is more than one.
        seed: of the division.

    Raises:
        UserError: fewer groups than folds were asked for, or fewer than two.
    """
    cases = prepared.labelled
    scrolls = sorted({case.scroll_id for case in cases})
    chosen: By = ("scroll" if len(scrolls) > 1 else "volume") if by == "auto" else by
    statements = []
    if by == "auto":
        statements.append(f"by {chosen}: the labelled cases come from {counted(len(scrolls), 'scroll')}")
    groups = [[case for case in cases if case.scroll_id == scroll] for scroll in scrolls]
    if chosen == "volume":
        groups = [[case] for case in cases]
    if len(groups) < 2:
        fix = " use --by volume" if chosen == "scroll" and len(cases) > 1 else " prepare more labelled cases"
        raise UserError(f"folds by {chosen} need at least 2 {chosen}s, {prepared.root} has {len(groups)}:{fix}")
    wanted = DEFAULT_COUNT if count is None else count
    if wanted < 2:
        raise UserError(f"--folds must be at least 2, got {wanted}")
    if wanted > len(groups):
        if count is not None and by != "auto":
            fix = f"use --folds {len(groups)}" + (" or --by volume" if chosen == "scroll" else "")
            raise UserError(
                f"{counted(wanted, 'fold')} by {chosen} need {counted(wanted, chosen)}, there are {len(groups)}: {fix}"
            )
        statements.append(
            f"{counted(len(groups), 'fold')} instead of {wanted}: there are only {counted(len(groups), chosen)}"
        )
        wanted = len(groups)
    parts = _deal(groups, wanted, seed, even=chosen == "volume")
    everyone = sorted(case.id for case in cases)
    folds = tuple(
        Fold(tuple(case_id for case_id in everyone if case_id not in part), tuple(sorted(part))) for part in parts
    )
    result = Folds(prepared.identity, chosen, seed, folds)
    _check_division(result, everyone, "the new folds")
    return result, tuple(statements)


def _deal(groups: Sequence[Sequence[Case]], count: int, seed: int, *, even: bool) -> list[set[str]]:
    random = generator(seed, 0, 0, "folds")
    surface = max(sum(case.surface_voxels for group in groups for case in group), 1)
    voxels = sum(case.voxels for group in groups for case in group)
    weights = [
        sum(case.surface_voxels for case in group) / surface + sum(case.voxels for case in group) / voxels
        for group in groups
    ]
    shuffled = random.permutation(len(groups))
    order = shuffled if even else sorted(shuffled, key=lambda number: -weights[number])
    parts: list[set[str]] = [set() for _ in range(count)]
    loads = np.zeros(count)
    for number in order:
        open_to = [k for k in range(count) if not even or len(parts[k]) == min(len(part) for part in parts)]
        fold = min(open_to, key=lambda k: loads[k])
        parts[fold].update(case.id for case in groups[number])
        loads[fold] += weights[number]
    return [parts[k] for k in random.permutation(count)]


def save_folds(folds: Folds, path: Path, *, overwrite: bool = False) -> None:
    """Write the file, with its check; one that says the same is left as it is.

    Raises:
        UserError: There is another division, which runs may have been trained on, and `overwrite` is not set.
    """
    if path.is_file() and not overwrite:
        if _says(path, folds):
            return
        raise UserError(
            f"{path} exists already and divides otherwise; runs may have been trained on it: choose another file with "
            "--out (and give it as data.folds), or --overwrite to replace it"
        )
    write_record(path, folds.to_json())


def _says(path: Path, folds: Folds) -> bool:
    """Whether a file holds these folds."""
    try:
        return _read(path, "").folds == folds.folds and _read(path, "").dataset == folds.dataset
    except UserError:
        return False


def load_folds(path: Path | str | None, dataset: PreparedDataset) -> Folds:
    """Read folds and check them against the data set they are to divide; None is `folds.json` in its folder.

    Raises:
        UserError: the file is missing, damaged or of another data set, or its folds are not disjoint or not complete.
    """
    path = dataset.root / FILE if path is None else Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist: run `volumen folds {dataset.root}` first, or give data.folds")
    folds = _read(path, f"run `volumen folds {dataset.root}` again")
    if folds.dataset != dataset.identity:
        raise UserError(
            f"{path} divides another data set (identity {folds.dataset[:12]}, {dataset.root} is "
            f"{dataset.identity[:12]}): run `volumen folds {dataset.root}` again"
        )
    _check_division(folds, [case.id for case in dataset.labelled], str(path))
    return folds


@dataclass(frozen=True)
class _File:
    """`folds.json`; one that a person wrote has no check."""

    version: Literal[1]
    dataset: str
    by: By
    seed: int
    folds: tuple[Fold, ...]


def _read(path: Path, fix: str) -> Folds:
    record = parse_json(read_bounded(path, fix), path, fix)
    if isinstance(record, dict) and set(record) != set(_File.__dataclass_fields__):
        record = open_record(json.dumps(record), path, fix)
    file: _File = typed(record, _File, path, fix)
    for fold in file.folds:
        for case_id in (*fold.train, *fold.validation):
            checked_name(case_id, "case id", path)
    return Folds(file.dataset, file.by, file.seed, file.folds, str(path))


def _check_division(folds: Folds, everyone: Sequence[str], where: str) -> None:
    """Disjoint, complete, and of cases that exist."""
    known, problems = set(everyone), []
    seen: dict[str, int] = {}
    for number, fold in enumerate(folds.folds):
        train, validation = set(fold.train), set(fold.validation)
        if train & validation:
            problems.append(f"fold {number} trains and validates on {sorted(train & validation)}")
        if train | validation != known:
            strange, lacking = sorted((train | validation) - known), sorted(known - train - validation)
            problems.append(f"fold {number} names {strange} that do not exist" if strange else "")
            problems.append(f"fold {number} leaves out {lacking}" if lacking else "")
        for case_id in fold.validation:
            if case_id in seen:
                problems.append(f"{case_id} is validated in folds {seen[case_id]} and {number}")
            seen[case_id] = number
    missing = sorted(known - set(seen))
    problems.append(f"never validated: {missing}" if missing else "")
    problems = [problem for problem in problems if problem]
    if problems:
        raise UserError(f"{where} is not a division of the data set: {'; '.join(problems)}: run `volumen folds` again")
