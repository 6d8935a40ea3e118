"""A run of ours as a history: what its logs say, in the order in which it happened."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volumen.config.schema import Config
from volumen.monitors.seen import EpochSeen, EventSeen, History, ProbeSeen, RunFacts, Seen, StepsSeen, ValidationSeen
from volumen.runs.folder import run_config, run_owner
from volumen.runs.kinds import Details, EventRecord, MetricRecord, Record, typed_lines
from volumen.runs.records import read_run_logs
from volumen.runs.scales import TOTAL, TRAIN, ProgressScales

CRITERION = "criterion"
OURS = {"sign", "diagnosis", CRITERION}
"""Events that the watching itself writes: they are no part of what is watched."""
_ORDER = {"probe": 0, "steps": 1, "train": 2, "validation": 3, "validation_swa": 4}


def read_history(run: Path, until: int | None = None) -> History:
    """The history of a run folder.

    Args:
        run: The folder.
        until: Leave out what was recorded after this step, which a resumed run does again.

    Raises:
        UserError: No run there.
    """
    config, logs, faults = run_config(run), read_run_logs(run), list[str]()
    metrics = typed_lines(logs.metrics, (MetricRecord,), "metrics.jsonl", faults)
    events = typed_lines(logs.events, (EventRecord, Details), "events.jsonl", faults)
    placed = [((one["step"], _ORDER.get(one["kind"], 5)), one) for one in metrics]
    placed += [((one["step"], 6), one) for one in events if one["kind"] not in OURS]
    placed = [each for each in placed if until is None or each[0][0] <= until]
    placed.sort(key=lambda each: each[0])
    records = tuple(found for _, one in placed if (found := seen_of(one)) is not None)
    setting = setting_of(config, ProgressScales.load(run, run_owner(run)))
    return History(setting, records, str(run), (*logs.faults, *faults))


def setting_of(config: Config, scales: ProgressScales) -> RunFacts:
    """What a configuration and the scale of progress say about a training."""
    stopping = config.training.early_stopping
    total = scales.scales.get("start", {}).get(TRAIN, {}).get(TOTAL)
    return RunFacts(
        selection_metric=config.training.selection_metric,
        planned_epochs=config.training.epochs,
        batch=config.data.batch,
        weights={name: term.weight for name, term in config.loss.terms.present().items() if term.weight > 0},
        minimum_delta=None if stopping is None else stopping.minimum_delta,
        base_rate=config.optimiser.learning_rate,
        gradient_clip=config.training.gradient_clip,
        schedule=config.schedule.kind,
        scale=None if total is None else (total.floor, total.baseline),
        full_validation=config.training.validation.kind == "full",
    )


def seen_of(record: Record) -> Seen | None:
    """A line of a log as a monitor sees it; None for what no monitor looks at."""
    kind, at = record["kind"], {"epoch": record["epoch"], "step": record["step"]}
    if kind == "train":
        return EpochSeen(
            **at,
            total=_plain(record["total"]),
            terms=_values(record["terms"]),
            weighted=_values(record["weighted"]),
            progress=_values(record.get("progress", {})),
            rate=_plain(record["learning_rate"]),
            gradient_norm=_plain(record["gradient_norm"]),
            clipped_share=record.get("clipped_share"),
            predicted_share=record["predicted_share"],
            true_share=record["true_share"],
            seconds=record["seconds"],
            loader_seconds=record["loader_seconds"],
            memory_gb=record.get("memory_gb"),
        )
    if kind == "steps":
        return StepsSeen(**at, totals=_row(record["totals"]), gradient_norms=_row(record["gradient_norms"]))
    if kind == "probe":
        return _probe(record, at)
    if kind == "validation":
        return ValidationSeen(
            **at,
            total=_plain(record["total"]),
            terms=_values(record["terms"]),
            progress=_values(record.get("progress", {})),
            metrics=_values(record["metrics"]),
            cases={name: _values(values) for name, values in record.get("cases", {}).items()},
            predicted_share=record["predicted_share"],
            true_share=record["true_share"],
            seconds=record["seconds"],
        )
    if kind == "validation_swa":
        return None
    numbers = {name: float(one) for name, one in record.items() if type(one) in (int, float)}
    return EventSeen(**at, kind=kind, numbers=numbers, text=str(record.get("message", record.get("cause", ""))))


def _probe(record: Mapping[str, Any], at: Mapping[str, int]) -> ProbeSeen:
    cosine = record.get("gradient_cosine")
    noise = record["batch"] * (1 / cosine - 1) if cosine is not None and cosine > 0 else None
    return ProbeSeen(
        **at,
        update_ratio=_values(record["update_ratio"]),
        gradient=_values(record["gradient"]),
        frozen=tuple(record["frozen"]),
        dead_share=_values(record["dead_share"]),
        term_mass=_values(record["term_mass"]),
        term_cosine=_values(record["term_cosine"]),
        gradient_cosine=cosine,
        noise_scale=noise,
        batch=record["batch"],
        loss=_plain(record["loss"]),
        shuffled_loss=_plain(record["shuffled_loss"]),
        moved=_plain(record["moved"]),
        image=_values(record.get("image", {})),
        probability=_values(record["probability"]),
    )


def _plain(value: float | None) -> float:
    """What is null in a record was not finite."""
    return math.nan if value is None else float(value)


def _values(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: _plain(value) for name, value in values.items()}


def _row(values: list[float | None]) -> tuple[float, ...]:
    return tuple(_plain(value) for value in values)
