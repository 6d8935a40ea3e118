"""The benchmark as a whole: what is there is kept, what is missing is run, until the time is over."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from volumen.doctor.benchmark.drawing import FIRST_SEEDS, Draw
from volumen.doctor.benchmark.qualifying import judge
from volumen.doctor.benchmark.running import RESULT, RUNS, VERSION, WORK, Job, Result, run_job
from volumen.doctor.benchmark.setups import Values
from volumen.errors import DamagedError, UserError
from volumen.system.locks import hold
from volumen.system.output import Progress, unheard
from volumen.system.places import writable_folder
from volumen.system.processes import pool_of
from volumen.system.records import read_record

R = TypeVar("R")
Started = tuple[Callable[..., R], tuple[Any, ...]]
"""A function and its arguments, for a process."""


class Named(Protocol):
    """What is run."""

    @property
    def name(self) -> str:
        """Of its folder."""


D = TypeVar("D", bound=Named)
Results = Mapping[str, Result]
"""By the name of the draw."""
MOST_FAILURES = 10
"""Of runs before any was made: from then on no more are begun."""
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def read_results(out: Path) -> dict[str, Result]:
    """The results that are whole and of this version, by the name of their draw."""
    found = {}
    for path in sorted((out / RUNS).glob(f"*/{RESULT}")):
        try:
            result: Result = read_record(path, Result, "remove its folder, it is run again")
        except DamagedError:
            continue
        if result.version == VERSION and result.draw.name == path.parent.name:
            found[result.draw.name] = result
    return found


def is_settled(draw: Draw, results: Results) -> bool:
    """Whether a later seed of a variant needs no run, because its first ones did no harm."""
    if draw.group != "fault" or draw.seed % 10 < FIRST_SEEDS:
        return False
    mine = dices(results, draw.variant)
    return (
        len(mine) >= FIRST_SEEDS and judge(mine, dices(results, f"healthy-healthy-{draw.setup}")).verdict == "neutral"
    )


def dices(results: Results, variant: str) -> list[float]:
    """True Dice of the runs of a variant, in the order of their seeds."""
    mine = [one for one in results.values() if one.draw.variant == variant]
    return [one.dice for one in sorted(mine, key=lambda one: one.draw.seed)]


def run_bench(
    out: Path,
    draws: Sequence[Draw],
    *,
    source: Path | None = None,
    values: Values | None = None,
    seconds: float = float("inf"),
    jobs: int = 1,
    progress: Progress = unheard,
) -> tuple[dict[str, Result], dict[str, str]]:
    """Run what is missing of some draws, in their order; what is being run when the time ends is ended well.

    Args:
        out: Folder of the benchmark, in which everything is kept.
        draws: As `drawing.plan` gives them.
        source: A data set in the competition's layout, for crops.
        values: Of the configuration, over those of all draws.
        seconds: After which nothing new is begun.
        jobs: Trainings at a time, of one thread each.
        progress: Told the name of a run that is done, how many are, and of how many.

    Returns:
        Results by the name of the draw, those of earlier calls too; and why draws could not be run.

    Raises:
        UserError: The folder cannot be written to, or another process works in it.
    """
    results = read_results(out)

    def begin(draw: Draw) -> Started[Result] | None:
        return None if is_settled(draw, results) else (run_job, (Job(draw, source, values or {}), out))

    failures = run_missing(out, draws, results, begin, seconds=seconds, jobs=jobs, progress=progress)
    return results, failures


def run_missing(
    out: Path,
    draws: Sequence[D],
    results: dict[str, R],
    start: Callable[[D], "Started[R] | None"],
    *,
    seconds: float,
    jobs: int,
    progress: Progress,
) -> dict[str, str]:
    """Run what has no result yet, in its order, and put its results beside the others.

    Args:
        out: Folder of the benchmark.
        draws: With names.
        results: By name; those of the new runs are added.
        start: What runs a draw, with its arguments; None where it needs no run any more.
        seconds: After which nothing new is begun.
        jobs: Trainings at a time.
        progress: Told the name of a run that is done.

    Returns:
        Why draws could not be run, by name.

    Raises:
        UserError: The folder cannot be written to, another process works in it, or the first runs all failed.
    """
    until, before, failures = time.monotonic() + seconds, len(results), dict[str, str]()
    with hold(writable_folder(out), "doctor-bench"):
        shutil.rmtree(out / WORK, ignore_errors=True)
        (out / WORK).mkdir(parents=True)
        waiting = (draw for draw in draws if draw.name not in results)
        os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))  # for the processes that are started
        with pool_of(jobs, _begin) as pool:
            running: dict[Future[R], str] = {}

            def begin() -> bool:
                found = next(((one, task) for one in waiting if (task := start(one)) is not None), None)
                if found is None or time.monotonic() > until:
                    return False
                draw, (function, arguments) = found
                running[pool.schedule(function, args=arguments)] = draw.name
                return True

            for done, ended in _rounds(jobs, begin, running):
                name = running.pop(ended)
                try:
                    results[name] = ended.result()
                except Exception as error:  # one run that fails takes nothing from the others
                    failures[name] = f"{type(error).__name__}: {error}"
                    if len(failures) >= MOST_FAILURES and len(results) == before:
                        raise UserError(
                            f"the first {MOST_FAILURES} runs failed, {name} with {failures[name]}: this machine or "
                            "this installation cannot make them"
                        ) from error
                progress(name, done, len(draws))
        shutil.rmtree(out / WORK, ignore_errors=True)
    return failures


def _rounds(
    jobs: int, begin: Callable[[], bool], running: Mapping["Future[R]", str]
) -> Iterator[tuple[int, "Future[R]"]]:
    """Runs as they end, while new ones are begun in their place."""
    done = 0
    goes_on = True
    while goes_on or running:
        while goes_on and len(running) < jobs:
            goes_on = begin()
        if not running:
            return
        for ended in wait(running, return_when=FIRST_COMPLETED).done:
            done += 1
            yield done, ended


def _begin() -> None:
    torch.set_num_threads(1)
