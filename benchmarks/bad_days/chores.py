"""Every command that writes, how one goes on after it was cut short, and what it has to have made in the end."""

from dataclasses import dataclass, replace
from pathlib import Path

from bad_days.commands import Command, Run
from bad_days.running import Outcome, result_of, run_forked, run_here
from bad_days.world import Room

SHORT = "-o training.epochs=3"


@dataclass(frozen=True)
class Chore:
    """A command that writes."""

    line: str
    result: tuple[str, ...]
    """As in `Command`."""
    ways: tuple[str, ...] = ()
    """Command lines that go on after it was cut short, tried in order; the same line where there are none."""
    training: str = ""
    """The run folder of a training."""
    processes: bool = False
    """It starts processes of its own, of which a fork of this process must know nothing."""

    def command(self, line: str = "") -> Command:
        """The command, or another line with the same result."""
        return Command(line or self.line, result=self.result)


def _training(workers: int) -> Chore:
    line = f"train config.yaml --out new/run --fold 0 --quiet {SHORT} -o data.workers={workers}"
    return Chore(line, ("weights:new/run",), ("train new/run --resume --quiet", line), "new/run", workers > 0)


def _with(line: str, result: str, *options: str) -> Chore:
    """A chore that may be gone on with under other options, or the same ones."""
    ways = tuple(f"{line} {option}".strip() for option in options)
    return Chore(line, (result,), ways, processes="--parallel" in line)


CHORES = {
    "phantom": Chore("phantom new/raw --volumes 3 --size 32 --scrolls 1", ("tree:new/raw",)),
    "prepare": Chore("prepare raw --out new/prepared", ("tree:new/prepared",)),
    "folds": Chore("folds prepared --folds 2 --out new/folds.json", ("tree:new",)),
    "train, 0 workers": _training(0),
    "train, 1 worker": _training(1),
    "train, 2 workers": _training(2),
    "train --resume": Chore("train stopped --resume --quiet", ("weights:stopped",), training="stopped"),
    "evaluate": Chore("evaluate run0 --json", ("out",)),
    "select": Chore("select run0 --out new/selection.json", ("text:new/selection.json",)),
    "compare": Chore("compare run0 run1 --quick --csv new/table.csv", ("text:new/table.csv",)),
    "experiment": Chore("experiment new e --config config.yaml --ledger new/ledger", ("tree:new/ledger",)),
    "folds train": Chore(
        f"folds train config.yaml --folds 0,1 --jobs 2 --out new/f --quiet {SHORT} -o data.workers=0",
        ("weights:new/f/fold0", "weights:new/f/fold1"),
        processes=True,
    ),
    "report": Chore("report run0 --out new/report.html", ("text:new/report.html",)),
    "tune, 1 worker": Chore("tune run0 run1 --out new/tuned --trials 4 --json", ("out",)),
    "tune, 2 workers": Chore("tune run0 run1 --out new/tuned --trials 4 --json --workers 2", ("out",), processes=True),
    "ensemble": _with(
        "ensemble run0 run1 --out new/e.volumen --work new/work", "identity:new/e.volumen", "", "--overwrite"
    ),
    "bundle": _with("bundle run0 --out new/b.volumen", "identity:new/b.volumen", "", "--overwrite"),
    "predict, 1 at a time": _with("predict run0 raw/test_images new/masks", "masks:new/masks", "--resume", ""),
    "predict, 2 at a time": _with(
        "predict run0 raw/test_images new/masks --parallel 2", "masks:new/masks", "--resume", ""
    ),
    "submit": _with(
        "submit model.volumen raw/test_images new/s.zip --accept-degenerate", "zip:new/s.zip", "", "--overwrite"
    ),
    "export": Chore("export prepared new/Dataset001_Phantom", ("tree:new",)),
    "import": Chore("import Dataset001_Phantom new/imported", ("tree:new",)),
    "score --csv": Chore("score trained raw/train_labels --csv new/table.csv --workers 2", ("text:new/table.csv",)),
}


class BrokenError(Exception):
    """A command fails where nothing disturbs it."""


def undisturbed(run: Run, chore: Chore, room: Room, scratch: Path | None = None) -> Outcome:
    """What a chore makes of the whole world; this process has then imported and compiled what it needs.

    Raises:
        BrokenError: It fails.
    """
    if not chore.processes:
        run_here(run, chore.command(), room.world)
        room.restore()
    outcome = run_forked(run, chore.command(), room.world, 600, scratch)
    room.restore()
    if outcome.code != 0:
        raise BrokenError(f"exit code {outcome.code} {outcome.ended_by}: {outcome.error.strip()[-400:]}")
    return outcome


def go_on(run: Run, chore: Chore, room: Room, limit: float, scratch: Path | None = None) -> tuple[str, Outcome]:
    """Take up a chore that was cut short; the way that worked, or the last one tried, and its outcome.

    Where it is refused since its result is there, whole, it had been done before it was cut short.
    """
    for line in chore.ways or (chore.line,):
        outcome = run_forked(run, chore.command(line), room.world, limit, scratch)
        if outcome.code != 2:  # done, or worse than refused
            return line, outcome
    if "out" in chore.result:
        return line, outcome
    try:
        result, _ = result_of(chore.command(), room.world, "")
    except Exception:  # it is not there, or not whole
        return line, outcome
    return line, replace(outcome, code=0, result=result)


def partial_files(room: Room) -> list[str]:
    """Files that a command had not finished writing."""
    return sorted(str(path.relative_to(room.world)) for path in room.world.rglob(".partial-*"))


def status_of(folder: Path) -> str:
    """The state that a training's status file gives; empty where there is none that can be read."""
    import json

    try:
        return str(json.loads((folder / "status.json").read_text()).get("state", ""))
    except (OSError, ValueError, AttributeError):
        return ""
