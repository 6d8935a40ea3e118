"""Score masks in files against labels in files; each case in a process that may die without harm to the rest."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pebble import ProcessExpired

from volumen.data.arrays import find_arrays, read_array
from volumen.data.layout import ONE_SCROLL
from volumen.data.listing import case_of
from volumen.errors import UserError
from volumen.experiments.scored_values import USUAL, Values, refuse_undeclared
from volumen.files import strict_json
from volumen.metrics import LeaderboardScore, leaderboard, leaderboard_without_matching_tunnels
from volumen.metrics.leaderboard import Definition, LeaderboardOptions
from volumen.system.names import checked_name, csv_text, one_line
from volumen.system.processes import pool_of

# The numbers of a case that are shown and averaged, in this order.
NUMBERS: dict[str, Callable[[LeaderboardScore], float | None]] = {
    "score": lambda found: found.score,
    "topo": lambda found: found.topo.score,
    "f1_components": lambda found: found.topo.f1[0],
    "f1_tunnels": lambda found: found.topo.f1[1],
    "f1_cavities": lambda found: found.topo.f1[2],
    "surface_dice": lambda found: found.surface_dice,
    "voi": lambda found: found.voi.score,
    "voi_split": lambda found: found.voi.split,
    "voi_merge": lambda found: found.voi.merge,
}

_LONGEST = 1000  # of a message


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
        return {name: number(self.score) for name, number in NUMBERS.items()}


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
        chosen = self.definition
        return strict_json(
            {
                "definition": {
                    "ignore_label": chosen.ignore_label,
                    "tolerance": chosen.tolerance,
                    "spacing": list(chosen.spacing),
                    "splits": list(chosen.splits),
                    "voi_alpha": chosen.voi_alpha,
                    "weights": list(chosen.weights),
                    "matched_tunnels": "upper bound" if self.is_upper_bound else "exact",
                },
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
    for path in (prediction, truth):
        if not path.exists():
            raise UserError(f"{path} does not exist: give two files or two folders")
    folders = [path.is_dir() and path.suffix.lower() != ".zarr" for path in (prediction, truth)]
    if folders[0] != folders[1]:
        kinds = ["a folder" if is_folder else "a file" for is_folder in folders]
        raise UserError(f"{prediction} is {kinds[0]} and {truth} is {kinds[1]}: give two files or two folders")
    if not folders[0]:
        case_id = checked_name(case_of(truth), "case id", truth.parent)
        return [Pair(case_id, (scrolls or {}).get(case_id, ONE_SCROLL), prediction, truth)]
    predicted, true = find_arrays(prediction), find_arrays(truth)
    if not predicted.keys() & true.keys():
        raise UserError(
            f"{prediction} and {truth} have no case in common ({', '.join(list(predicted)[:3])} ... and "
            f"{', '.join(list(true)[:3])} ...): files are matched by name without the suffix"
        )
    ids = sorted(predicted.keys() | true.keys())
    return [
        Pair(case_id, (scrolls or {}).get(case_id, ONE_SCROLL), predicted.get(case_id), true.get(case_id))
        for case_id in ids
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
    progress: Callable[[str, int, int], None] = lambda name, done, of: None,
) -> FileScores:
    """Score every pair that is complete; whatever befalls one case, the others get their scores.

    Args:
        pairs: the cases, as `find_pairs` gives them.
        options: as for `leaderboard`.
        names: which array of an NPZ file or Zarr group holds the prediction and the truth.
        quick: the upper bound without matched tunnels.
        values: what values mean; its ignored label is the one of `options`.
        missing_is_empty: read parts that a Zarr store lacks as background.
        workers: processes, each of which scores one case at a time.
        progress: called with the id of each case that is done, their number so far, and how many there are.

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
        return FailedCase(pair.id, _cause_of(death.exitcode), False)
    except BrokenProcessPool:
        what = "the process that was to score it ended before it began, most likely for want of memory"
        return FailedCase(pair.id, f"{what}: use fewer --workers, or close other programs", False)
    except Exception as error:
        return FailedCase(pair.id, one_line(f"{type(error).__name__}: {error}", _LONGEST), False)
    return (
        FailedCase(pair.id, one_line(found, _LONGEST), True)
        if isinstance(found, str)
        else ScoredCase(pair.id, pair.scroll_id, found)
    )


def _incomplete(pair: Pair) -> str | None:
    if pair.prediction is None:
        return f"no prediction for {pair.truth}: add it, or remove the truth"
    if pair.truth is None:
        return f"no truth for {pair.prediction}: add it, or remove the prediction"
    return None


def _cause_of(exit_code: int | None) -> str:
    cause = "; it may have run out of memory: use fewer --workers" if exit_code in (-9, 137) else ""
    return f"the process that scored it died with exit code {exit_code}{cause}"
