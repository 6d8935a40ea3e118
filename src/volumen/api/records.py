"""What a run wrote down, as columns."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from volumen.errors import UserError


@dataclass(frozen=True)
class Records(Mapping[str, list[Any]]):
    """Columns of a run's records by name, all equally long; what a record does not say is None."""

    columns: dict[str, list[Any]]
    faults: tuple[str, ...] = ()
    """Damaged or missing lines, a sentence each; they are left out."""

    def __getitem__(self, name: str) -> list[Any]:
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def to_pandas(self) -> Any:
        """The same as a `pandas.DataFrame`.

        Raises:
            UserError: pandas is not installed; volumen does without it.
        """
        try:
            return import_module("pandas").DataFrame(self.columns)
        except ImportError as error:
            raise UserError("pandas is not installed: pip install pandas, or take the columns as they are") from error


def records(run: str | Path, kind: str = "train") -> Records:
    """What a run wrote down as it went, as columns: one row an epoch, nested values under dotted names.

    Args:
        run: Run folder; one that is still running may be read.
        kind: `train` (losses, learning rate, time), `validation`, `validation_swa` (metrics), or `events`.

    Raises:
        UserError: No run, or a kind that it has not recorded.
    """
    from volumen.runs.records import read_run_logs

    logs = read_run_logs(Path(run))
    kinds = sorted({str(record["kind"]) for record in logs.metrics})
    if kind not in (*kinds, "events"):
        raise UserError(f"{run} has no records of kind {kind!r}: it has {', '.join((*kinds, 'events'))}")
    chosen = logs.events if kind == "events" else [one for one in logs.metrics if one["kind"] == kind]
    rows = [dict(_flat(record)) for record in chosen]
    names = dict.fromkeys(name for row in rows for name in row)
    return Records({name: [row.get(name) for row in rows] for name in names}, logs.faults)


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
