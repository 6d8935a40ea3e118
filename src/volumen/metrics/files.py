"""Score masks in files against labels in files; each case in a process that may die without harm to the rest.

What values mean is said, or one of the usual ways, and never guessed. The leaderboard takes whatever is neither 0 nor
ignored for surface: a truth that calls unlabelled voxels 255 would score a perfect mask below 1, and one whose sheets
are numbered would leave sheet 2 out, which it calls unlabelled.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pebble import ProcessExpired

from volumen.data.arrays import find_arrays, read_array
from volumen.data.labels import BACKGROUND, IGNORE, MASK, SEEN, SURFACE, undeclared
from volumen.data.layout import ONE_SCROLL
from volumen.data.listing import case_of
from volumen.errors import UserError
from volumen.files import strict_json
from volumen.metrics.leaderboard import (
    Definition,
    LeaderboardOptions,
    LeaderboardScore,
    leaderboard,
    leaderboard_without_matching_tunnels,
)
from volumen.metrics.masks import checked_pair
from volumen.metrics.table import LEADERBOARD_METRICS, Metric
from volumen.system.names import checked_name, csv_text, one_line
from volumen.system.output import Progress, unheard
from volumen.system.processes import pool_of

NUMBERS: dict[str, Metric[LeaderboardScore]] = {
    "score" if name == "leaderboard" else name: one for name, one in LEADERBOARD_METRICS.items()
}
"""The numbers of a case that are shown and averaged, in this order."""
ANY = "any"
NOTHING_IGNORED = -1
"""An ignore label that no label has."""
_LONGEST_DIGITS = 18
_LONGEST_MESSAGE = 1000


@dataclass(frozen=True)
class Values:
    """What values mean: 0 is background."""

    surface: frozenset[int] | None = frozenset((SURFACE,))
    """Values that are surface; None takes all that are neither 0 nor ignored."""
    ignore: int = IGNORE
    """Of the truth: voxels that nobody labelled."""


USUAL = Values()


def values_of(surface: str | None, ignore: int | None) -> Values:
    """What a person says of the values.

    Args:
        surface: Whole numbers separated by commas, or `any`; None for 1.
        ignore: The label of unlabelled voxels; None for 2.

    Raises:
        UserError: These are no values, or one means two things.
    """
    label = IGNORE if ignore is None else ignore
    if surface is None:
        return Values(frozenset((SURFACE,)) - {label}, label)
    if surface.strip().lower() == ANY:
        if ignore is None:
            raise UserError(
                f"--surface {ANY} takes every value for surface but 0 and the ignored one: say which that is with "
                f"--ignore-label ({NOTHING_IGNORED} where every voxel is labelled)"
            )
        return Values(None, label)
    parts = [part.strip() for part in surface.split(",")]
    if not all(part.isdecimal() and len(part) <= _LONGEST_DIGITS and int(part) for part in parts):
        raise UserError(f"--surface must be whole numbers above 0, such as 1,3, or {ANY}, got {surface:.80}")
    values = frozenset(map(int, parts))
    if label in values:
        raise UserError(
            f"--surface has {label}, which is the label of ignored voxels too: say another one with --ignore-label "
            f"({NOTHING_IGNORED} where every voxel is labelled)"
        )
    return Values(values, label)


def refuse_undeclared(
    prediction: NDArray[Any], truth: NDArray[Any], values: Values, files: tuple[object, object]
) -> None:
    """Refuse a mask or a label whose values nobody declared; of all others 0 is background and the rest surface.

    A prediction may hold 0 and 255 in place of 0 and 1, and the ignored label where the truth has it.

    Raises:
        UserError: Names the values, and what to say about them; or the two are no masks of one shape.
    """
    predicted, true = checked_pair(prediction, truth)
    if values.surface is None:
        return
    meant = {BACKGROUND, *values.surface}
    if strange := undeclared(true, {*meant, values.ignore}):
        expected = f"{_listed(meant)} and {values.ignore} (ignored)" if values.ignore >= 0 else _listed(meant)
        raise UserError(
            f"{files[1]} (truth) holds {strange}, expected {expected}: say what they are: --ignore-label VALUE for "
            f"voxels that nobody labelled, --surface {_listed(values.surface)},VALUE for surface, or --surface {ANY} "
            f"--ignore-label {NOTHING_IGNORED} where sheets are numbered and all is labelled"
        )
    unseen = np.where((predicted == values.ignore) & (true == values.ignore), BACKGROUND, predicted)
    strange = undeclared(unseen, {*meant, *MASK})
    if strange and undeclared(unseen, SEEN):
        raise UserError(
            f"{files[0]} (prediction) holds {strange}, expected {_listed(meant)} (or 0 and 255): say --surface "
            f"{_listed(values.surface)},VALUE for values that are surface, or --surface {ANY} --ignore-label "
            f"{values.ignore} if all but 0 is, or write a mask of 0 and 1"
        )


def _listed(values: "frozenset[int] | set[int]") -> str:
    return ",".join(map(str, sorted(values)))


@dataclass(frozen=True)
class Pair:
    """A case to score; a file that is missing is None."""

    id: str
    scroll_id: str
    prediction: Path | None
    truth: Path | None


@dataclass(frozen=True)
class ScoredCase:
    """A case and its score."""

    id: str
    scroll_id: str
    score: LeaderboardScore

    @property
    def values(self) -> dict[str, float | None]:
        """The numbers of `NUMBERS`; None where a dimension of the topology is inactive."""
        return {name: one.compute(self.score) for name, one in NUMBERS.items()}


@dataclass(frozen=True)
class FailedCase:
    """A case without a score, and why; `is_user_error` where its files are at fault."""

    id: str
    message: str
    is_user_error: bool


@dataclass(frozen=True)
class FileScores:
    """The scores of all cases that have one, and the errors of the others."""

    cases: tuple[ScoredCase, ...]
    failures: tuple[FailedCase, ...]
    definition: Definition
    is_upper_bound: bool

    @property
    def mean(self) -> dict[str, float | None]:
        """Mean over the scored cases, by the names of `NUMBERS`."""
        return _mean(self.cases)

    @property
    def by_scroll(self) -> dict[str, dict[str, float | None]]:
        """Mean over each scroll's scored cases; `cases` is their number."""
        scrolls = sorted({case.scroll_id for case in self.cases})
        groups = {scroll: [case for case in self.cases if case.scroll_id == scroll] for scroll in scrolls}
        return {scroll: {"cases": float(len(group)), **_mean(group)} for scroll, group in groups.items()}

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON values."""
        chosen = {name: value for name, value in asdict(self.definition).items() if name != "threads"}
        return strict_json(
            {
                "definition": {**chosen, "matched_tunnels": "upper bound" if self.is_upper_bound else "exact"},
                "cases": [{"id": case.id, "scroll_id": case.scroll_id, **case.score.to_dict()} for case in self.cases],
                "mean": self.mean if self.cases else None,
                "by_scroll": self.by_scroll,
                "errors": [{"id": case.id, "error": case.message} for case in self.failures],
            }
        )

    def to_csv(self) -> str:
        """A line per case with its numbers and counts, then the failed ones with their error; no cell is a formula."""
        counts = [f"{what}_{k}" for k in range(3) for what in ("matched", "predicted", "true")]
        text = io.StringIO()
        table = csv.DictWriter(text, ["id", "scroll_id", *NUMBERS, *counts, "error"], lineterminator="\n")
        table.writeheader()
        for case in self.cases:
            topo = case.score.topo
            numbers = [n for k in range(3) for n in (topo.matched[k], topo.predicted[k], topo.true[k])]
            row = dict(zip(counts, numbers, strict=True))
            table.writerow({"id": csv_text(case.id), "scroll_id": csv_text(case.scroll_id), **case.values, **row})
        for failure in self.failures:
            table.writerow({"id": csv_text(failure.id), "error": csv_text(failure.message)})
        return text.getvalue()


def _mean(cases: Sequence[ScoredCase]) -> dict[str, float | None]:
    rows = [case.values for case in cases]
    known = {name: [value for row in rows if (value := row[name]) is not None] for name in NUMBERS}
    return {name: float(np.mean(values)) if values else None for name, values in known.items()}


def find_pairs(prediction: Path, truth: Path, scrolls: Mapping[str, str] | None = None) -> list[Pair]:
    """The cases of two files, or of two folders matched by name.

    Raises:
        UserError: a path does not exist, one is a folder and the other a file, or no name is in both folders.
    """
    known = scrolls or {}
    for path in (prediction, truth):
        if not path.exists():
            raise UserError(f"{path} does not exist: give two files or two folders")
    folders = [path.is_dir() and path.suffix.lower() != ".zarr" for path in (prediction, truth)]
    if folders[0] != folders[1]:
        kinds = ["a folder" if is_folder else "a file" for is_folder in folders]
        raise UserError(f"{prediction} is {kinds[0]} and {truth} is {kinds[1]}: give two files or two folders")
    if not folders[0]:
        case_id = checked_name(case_of(truth), "case id", truth.parent)
        return [Pair(case_id, known.get(case_id, ONE_SCROLL), prediction, truth)]
    predicted, true = find_arrays(prediction), find_arrays(truth)
    if not predicted.keys() & true.keys():
        raise UserError(
            f"{prediction} and {truth} have no case in common ({', '.join(list(predicted)[:3])} ... and "
            f"{', '.join(list(true)[:3])} ...): files are matched by name without the suffix"
        )
    return [
        Pair(case_id, known.get(case_id, ONE_SCROLL), predicted.get(case_id), true.get(case_id))
        for case_id in sorted(predicted.keys() | true.keys())
    ]


def score_pair(
    prediction: Path,
    truth: Path,
    names: tuple[str | None, str | None],
    options: LeaderboardOptions,
    quick: bool,
    values: Values,
    missing_is_empty: bool,
) -> LeaderboardScore | str:
    """Read and score one case; the message where its files cannot be scored."""
    metric = leaderboard_without_matching_tunnels if quick else leaderboard
    try:
        predicted, true = (
            read_array(path, name, missing_is_empty=missing_is_empty)
            for path, name in zip((prediction, truth), names, strict=True)
        )
        refuse_undeclared(predicted, true, values, (prediction, truth))
        return metric(predicted, true, **options)
    except UserError as error:
        return str(error)


def score_files(
    pairs: list[Pair],
    options: LeaderboardOptions,
    *,
    names: tuple[str | None, str | None] = (None, None),
    quick: bool = False,
    values: Values = USUAL,
    missing_is_empty: bool = False,
    workers: int = 1,
    progress: Progress = unheard,
) -> FileScores:
    """Score every pair that is complete; whatever befalls one case, the others get their scores.

    Args:
        pairs: as `find_pairs` gives them.
        options: as for `leaderboard`.
        names: which array of an NPZ file or Zarr group holds the prediction and the truth.
        quick: the upper bound without matched tunnels.
        values: what values mean; its ignored label is the one of `options`.
        missing_is_empty: read parts that a Zarr store lacks as background.
        workers: processes, each of which scores one case at a time.
        progress: told each case that is done.

    Raises:
        UserError: an option out of range.
    """
    values = replace(values, ignore=options.get("ignore_label", values.ignore))
    definition = Definition(**options)
    scored: list[ScoredCase] = []
    failed = [FailedCase(pair.id, message, True) for pair in pairs if (message := _incomplete(pair)) is not None]
    complete = [(pair, pair.prediction, pair.truth) for pair in pairs if pair.prediction and pair.truth]
    with pool_of(min(workers, len(complete))) if complete else nullcontext() as pool:
        futures: dict[Future[LeaderboardScore | str], Pair] = {
            pool.submit(score_pair, None, prediction, truth, names, options, quick, values, missing_is_empty): pair
            for pair, prediction, truth in complete
            if pool is not None
        }
        for done, future in enumerate(as_completed(futures), 1):
            pair = futures[future]
            outcome = _outcome(pair, future)
            if isinstance(outcome, ScoredCase):
                scored.append(outcome)
            else:
                failed.append(outcome)
            progress(pair.id, done, len(futures))
    place = {pair.id: number for number, pair in enumerate(pairs)}
    scored.sort(key=lambda case: place[case.id])
    failed.sort(key=lambda case: place[case.id])
    return FileScores(tuple(scored), tuple(failed), definition, quick)


def _outcome(pair: Pair, future: "Future[LeaderboardScore | str]") -> ScoredCase | FailedCase:
    try:
        found = future.result()
    except ProcessExpired as death:
        cause = "; it may have run out of memory: use fewer --workers" if death.exitcode in (-9, 137) else ""
        return FailedCase(pair.id, f"the process that scored it died with exit code {death.exitcode}{cause}", False)
    except BrokenProcessPool:
        what = "the process that was to score it ended before it began, most likely for want of memory"
        return FailedCase(pair.id, f"{what}: use fewer --workers, or close other programs", False)
    except Exception as error:
        return FailedCase(pair.id, one_line(f"{type(error).__name__}: {error}", _LONGEST_MESSAGE), False)
    if isinstance(found, str):
        return FailedCase(pair.id, one_line(found, _LONGEST_MESSAGE), True)
    return ScoredCase(pair.id, pair.scroll_id, found)


def _incomplete(pair: Pair) -> str | None:
    if pair.prediction is None:
        return f"no prediction for {pair.truth}: add it, or remove the truth"
    if pair.truth is None:
        return f"no truth for {pair.prediction}: add it, or remove the prediction"
    return None
