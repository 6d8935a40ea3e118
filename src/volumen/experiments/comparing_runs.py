"""What is compared: runs as their folders tell of them, and the rows that they make.

Runs of one configuration that differ in seed, fold, name or place are one row. A run that has not ended by itself makes
a row of its own, so that no mean holds a half one; one that cannot be read is still in the list, with the reason.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volumen.config.compare import NO_FACTORS, Difference, diff_configs
from volumen.config.dump import canonical, flat_values
from volumen.config.schema import Config
from volumen.config.stamp import read_stamp
from volumen.errors import UserError
from volumen.runs.folder import CONFIG, WORK, run_config, run_owner
from volumen.runs.kinds import MetricRecord, Record, typed_lines
from volumen.runs.records import read_run_logs, read_status
from volumen.system.locks import is_held
from volumen.system.output import counted

ENDED = ("finished", "early_stopping", "out_of_time")
"""How a run ends by itself."""
REPEATS = ("seed", "data.fold")
"""Keys in which the runs of one row may differ, beside names and places."""


@dataclass(frozen=True)
class Told:
    """A run, by its own records."""

    path: Path
    name: str
    """Its folder's, with as much of the way there as tells it from the others."""
    config: Config | None = None
    state: str = "unknown"
    problem: str = ""
    """Why there is no configuration."""
    epochs: int = 0
    planned_epochs: int = 0
    steps: int = 0
    seconds: float | None = None
    epoch_seconds: float | None = None
    """Median over the epochs."""
    memory_gb: float | None = None
    machine: str = ""
    """That it was trained on; empty where it was not recorded."""
    torch: str = ""
    validations: tuple[Record, ...] = ()
    best_epoch: int | None = None
    faults: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether it came to an end of its own."""
        return self.state in ENDED

    def validation(self, which: str) -> Record | None:
        """The record of the validation of some weights: of the best epoch, or the last one."""
        if which == "best" and self.best_epoch is not None:
            return next((one for one in self.validations if one["epoch"] == self.best_epoch), None)
        return self.validations[-1] if self.validations else None


@dataclass(frozen=True)
class Row:
    """Runs of one configuration."""

    label: str
    runs: tuple[Told, ...]
    note: str = ""
    """What is to be known of it: it has not ended, or stands alone."""

    @property
    def config(self) -> Config:
        """Of the first run; the others differ in seed, fold, names and places."""
        config = self.runs[0].config
        if config is None:
            raise ValueError("a row is made of runs that have a configuration")
        return config


def read_told(paths: Sequence[Path]) -> tuple[Told, ...]:
    """Runs by their records, each folder once.

    Raises:
        UserError: There is no run in one of the folders.
    """
    once = {path.resolve(): path for path in paths}
    for path in once.values():
        run_owner(path)
    names = _names(list(once))
    return tuple(_told(path, names[place]) for place, path in once.items())


def _names(places: Sequence[Path]) -> dict[Path, str]:
    for parts in range(1, max(len(place.parts) for place in places) + 1):
        names = {place: "/".join(place.parts[-parts:]) for place in places}
        if len(set(names.values())) == len(places):
            return names
    return {place: str(place) for place in places}


def _told(path: Path, name: str) -> Told:
    problem, config = "", None
    try:
        config = run_config(path)
    except UserError as error:
        problem = str(error)
    logs = read_run_logs(path)
    faults = [*logs.faults]
    records: list[Record] = typed_lines(logs.metrics, (MetricRecord,), "metrics.jsonl", faults)
    train = [one for one in records if one["kind"] == "train"]
    raw_memory = [one.get("memory_gb") for one in logs.metrics if one.get("kind") == "train"]
    memory = [float(one) for one in raw_memory if isinstance(one, float | int) and 0 <= one < 10**9]
    seconds = [float(one["seconds"]) for one in train]
    status = _status(path, faults)
    best = status.get("best") or {}
    return Told(
        path,
        name,
        config,
        status["state"],
        problem,
        status.get("epoch", len(train)),
        status.get("planned_epochs", 0 if config is None else config.training.epochs),
        status.get("step", max((one["step"] for one in train), default=0)),
        status.get("seconds"),
        statistics.median(seconds) if seconds else None,
        max(memory) if memory else None,
        status.get("machine", ""),
        str(read_stamp(path / CONFIG).versions.get("torch") or ""),
        tuple(one for one in records if one["kind"] == "validation"),
        best.get("epoch"),
        tuple(faults),
    )


_STATUS: dict[str, tuple[Any, ...]] = {
    "state": (str,), "epoch": (int,), "planned_epochs": (int,), "step": (int,), "seconds": (float, int),
    "machine": (str,), "best": (dict,),
}  # fmt: skip


def _status(path: Path, faults: list[str]) -> dict[str, Any]:
    """What `status.json` says, as far as it is what a run writes."""
    try:
        plain = read_status(path)
    except UserError as error:
        return {"state": "unknown", "reason": str(error)}
    if plain is None:
        return {"state": "not begun"}
    found = {key: plain[key] for key, kinds in _STATUS.items() if type(plain.get(key)) in kinds}
    best = found.get("best", {})
    if type(best.get("epoch", 0)) is not int or len(found.get("machine", "")) > 300:
        faults.append("status.json holds what no run writes: left out")
        found.pop("best", None)
        found.pop("machine", None)
    found.setdefault("state", "unknown")
    if found["state"] == "running" and not is_held(path, WORK):
        found["state"] = "broken_off"
    return found


def rows_of(told: Sequence[Told], *, each: bool = False) -> tuple[Row, ...]:
    """Runs as rows, in the order of their first run.

    Args:
        told: Runs; those without a configuration are in no row.
        each: A row for every run.
    """
    groups: dict[str, list[Told]] = {}
    for run in told:
        if run.config is not None:
            alone = each or not run.ended
            groups.setdefault(f"run {run.name}" if alone else _configuration(run.config), []).append(run)
    labels = _labels(list(groups.values()))
    return tuple(
        Row(label, tuple(runs), _note(runs, groups)) for label, runs in zip(labels, groups.values(), strict=True)
    )


def _configuration(config: Config) -> str:
    values = {key: value for key, value in flat_values(config).items() if counts(key)}
    return canonical(values)


def counts(key: str) -> bool:
    """Whether runs that differ in a key are other configurations."""
    return not any(key == other or key.startswith(f"{other}.") for other in (*NO_FACTORS, *REPEATS))


def _labels(groups: Sequence[Sequence[Told]]) -> list[str]:
    """A run's name, or the configuration's where several runs share it and no other row does."""
    wanted = [group[0].config.name if len(group) > 1 and group[0].config else group[0].name for group in groups]
    found = []
    for group, name in zip(groups, wanted, strict=True):
        base = name if wanted.count(name) == 1 else group[0].name
        found.append(f"{base} ({counted(len(group), 'run')})" if len(group) > 1 else base)
    return found


def _note(runs: Sequence[Told], groups: Mapping[str, Sequence[Told]]) -> str:
    run = runs[0]
    if run.ended or run.config is None:
        return ""
    state = run.state.replace("_", " ")
    note = f"{run.name} has not ended by itself ({state}, epoch {run.epochs} of {run.planned_epochs})"
    alike = _configuration(run.config) in groups
    return note + (": it is a row of its own and in no mean" if alike else "")


def differing(rows: Sequence[Row]) -> tuple[str, ...]:
    """Keys that make rows differ from each other, in the schema's order."""
    found: dict[str, Difference] = {}
    for row in rows[1:]:
        found |= {each.key: each for each in diff_configs(rows[0].config, row.config) if counts(each.key)}
    order = list(dict.fromkeys(key for row in rows for key in flat_values(row.config)))
    return tuple(key for key in order if key in found)
