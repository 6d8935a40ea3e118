"""An experiment's file: what was asked, what was expected, what came of it. `experiments/NAME.yaml`."""

import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from volumen.config.base import Section
from volumen.config.experiment import ExpectedOutcome, Expression, check_outcomes
from volumen.config.load import read_model
from volumen.errors import UserError
from volumen.system.names import checked_name, problem_of, some

FOLDER = Path("experiments")
"""Of the ledger, in the working folder."""


def _a_day(text: str) -> str:
    """A day as 2026-01-25."""
    datetime.date.fromisoformat(text)
    return text


def _a_name(text: str) -> str:
    """A name that is a file's."""
    if problem := problem_of(text):
        raise ValueError(f"{text[:60]!r} {problem}: give the experiment a name that a file can have")
    return text


Day = Annotated[str, AfterValidator(_a_day)]
Name = Annotated[str, AfterValidator(_a_name)]


class Note(Section):
    """Something that was seen or decided."""

    date: Day
    text: Annotated[str, Field(min_length=1)]


class Entry(Section):
    """An experiment. What differs from the parent is computed, and so are verdicts: neither stands in the file."""

    name: Name
    """As the file is called."""
    hypothesis: str
    """What should happen, and why."""
    parent: Name | None = None
    """The experiment that this one is compared with."""
    config: str | None = None
    """Configuration: a YAML file, seen from the working folder, or `preset:NAME`."""
    overrides: tuple[str, ...] = ()
    """`key=value` over it, as with `-o`."""
    runs: tuple[str, ...] = ()
    """Run folders or training logs of other programs; where none is named, the folders in `runs/` with this
    configuration."""
    criteria: tuple[Expression, ...] = ()
    """When it counts as a success; the configuration's own where none is named."""
    outcomes: tuple[ExpectedOutcome, ...] = ()
    """What may come of it; outcomes exclude each other."""
    fallback: tuple[str, ...] = ()
    """What is done where it fails, in this order."""
    notes: tuple[Note, ...] = ()
    status: Literal["open", "closed"] = "open"
    closed: Day | None = None
    """The day."""
    came_true: Annotated[int, Field(ge=0, le=1000)] | None = None
    """The outcome that came true, counted from 1; 0 for none of them."""
    conclusion: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> "Entry":
        check_outcomes(self.outcomes)
        if self.parent == self.name:
            raise ValueError(f"{self.name} is its own parent: name another experiment, or none")
        if self.came_true is not None and self.came_true > len(self.outcomes):
            raise ValueError(f"came_true is {self.came_true}, and there are {len(self.outcomes)} outcomes")
        if self.came_true is not None and self.status == "open":
            raise ValueError("came_true is said of an open experiment: write status: closed, or remove it")
        return self


def read_entry(path: Path) -> Entry:
    """One file of a ledger.

    Raises:
        UserError: Not there, or every mistake in it with its line.
    """
    if not path.is_file():
        others = some(sorted(each.stem for each in path.parent.glob("*.yaml")))
        raise UserError(
            f"there is no experiment {path.stem} in {path.parent} ({others}): "
            f"make it with `volumen experiment new {path.stem}`, or name another folder with --ledger"
        )
    entry = read_model(Entry, path)
    if entry.name != path.stem:
        raise UserError(f"{path}: it says name: {entry.name}; an experiment is called as its file: rename one of them")
    return entry


def read_ledger(folder: Path) -> dict[str, Entry]:
    """All experiments of a ledger by name, parents before children.

    Raises:
        UserError: No ledger there, a damaged file, a parent that is not there, or parents in a circle.
    """
    if not folder.is_dir():
        raise UserError(f"there is no ledger {folder}: begin one with `volumen experiment new NAME`, or give --ledger")
    found = {path.stem: read_entry(path) for path in sorted(folder.glob("*.yaml")) if not path.name.startswith(".")}
    for name, entry in found.items():
        if entry.parent is not None and entry.parent not in found:
            raise UserError(f"{folder / name}.yaml: its parent {entry.parent} is not in {folder}: it has {some(found)}")
    return {name: found[name] for name in _by_family(found, folder)}


def _by_family(found: dict[str, Entry], folder: Path) -> list[str]:
    """Parents before children, each family together."""
    order: list[str] = []

    def visit(name: str) -> None:
        order.append(name)
        for child in found:
            if found[child].parent == name:
                visit(child)

    for name, entry in found.items():
        if entry.parent is None:
            visit(name)
    circle = sorted(set(found) - set(order))
    if circle:
        raise UserError(f"{folder}: the parents of {some(circle)} run in a circle: leave out one of them")
    return order


def place_of(folder: Path, name: str) -> Path:
    """The file of an experiment.

    Raises:
        UserError: A name that no file can have.
    """
    return folder / f"{checked_name(name, 'name of the experiment', 'volumen experiment')}.yaml"
