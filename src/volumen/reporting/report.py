"""The report: one HTML file that says what a run was, how it went and what it can do.

Style, charts and pictures are inside of the file, so that it can be mailed, archived and opened without a network, and
it asks for none. Everything in it comes from the run folder; nothing is computed but means.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from volumen import __version__
from volumen.config.compare import PARENT, Descent
from volumen.config.dump import dump_config
from volumen.config.model import MonaiModel, UNetModel
from volumen.config.schema import Config
from volumen.criteria import Verdict
from volumen.files import write_atomically
from volumen.monitors.criteria import judged, records_of_run
from volumen.monitors.diagnosis import diagnose
from volumen.monitors.history import read_history
from volumen.monitors.picture import Picture
from volumen.monitors.watching import replay, thinned
from volumen.postprocess import describe
from volumen.reporting.evaluation_charts import evaluation_values
from volumen.reporting.letter import Letter, letter_of
from volumen.reporting.page import render
from volumen.reporting.records import RunRecords, read_run
from volumen.reporting.training_curves import event_rows, training_values
from volumen.reporting.words import number, words
from volumen.runs.folder import run_config
from volumen.runs.records import read_run_logs
from volumen.system.output import counted, duration
from volumen.system.places import writable_file

STATES = {
    "running": "Still running when this report was made",
    "finished": "Finished",
    "early_stopping": "Stopped early, without further progress",
    "out_of_time": "Ended with its time budget",
    "stopped": "Stopped; it can be resumed",
    "sick": "Ended: its data, labels or configuration are at fault",
    "failed": "Failed",
    "broken_off": "Broken off (its process ended without recording why; it can be resumed)",
}
Judged = tuple[tuple[str, Verdict], ...]
"""Criteria and their verdicts."""
GOOD, WAITING = {"finished", "early_stopping", "out_of_time"}, {"running", "stopped"}


def write_report(run: Path, out: Path | None = None, refresh: float | None = None) -> tuple[Path, tuple[str, ...]]:
    """Write a run's report.

    Args:
        run: Run folder.
        out: Where to; `report.html` in the run folder by default. A report that is there is replaced.
        refresh: Seconds after which an open page loads itself again, as long as the run goes on.

    Returns:
        The file written, and what is wrong with the run's records, a sentence each: the page says it too.

    Raises:
        UserError: No run folder, a damaged file in it, or no place to write to.
    """
    config = run_config(run)  # what is no run folder is not written to
    target = writable_file(out or run / "report.html", "choose another file with --out")
    records = read_run(run, config)
    write_atomically(target, build_report(records, letter_about(run), refresh, criteria_of(records)))
    return target, records.faults


def follow_run(run: Path, out: Path | None, every: float) -> None:
    """Write a run's report again and again, until the run has ended.

    Raises:
        UserError: As `write_report`.
    """
    while True:
        status = read_run(run).status
        goes_on = status is not None and status["state"] == "running"
        write_report(run, out, every if goes_on else None)
        if not goes_on:
            return
        time.sleep(every)


def letter_about(run: Path) -> Letter:
    """What the doctor says of a run folder.

    Raises:
        UserError: No run there.
    """
    memory, _ = replay(thinned(read_history(run)))
    picture = Picture(memory, read_run_logs(run).findings or ())
    return letter_of(diagnose(picture), picture, str(run))


def criteria_of(run: RunRecords) -> Judged:
    """The run's own criteria, each with how it stands."""
    texts = run.config.experiment.criteria
    scores = None if run.evaluation is None else run.evaluation.mean
    return judged(texts, records_of_run(run.path, scores)) if texts else ()


def build_report(
    run: RunRecords, letter: Letter | None = None, refresh: float | None = None, criteria: Judged = ()
) -> str:
    """The whole page; without a letter it has no diagnosis."""
    state = run.status["state"] if run.status else "unknown"
    evaluation = run.evaluation
    events, left_out = event_rows(run.events, run.records)
    effects = () if evaluation is None else evaluation.step_effects
    verdicts = () if evaluation is None else evaluation.verdicts
    return render(
        "report.html",
        run=run,
        letter=letter,
        refresh=refresh,
        chip="good" if state in GOOD else "waiting" if state in WAITING else "bad",
        verdict=verdict(run),
        missed=sum(one.reached is False for one in verdicts),
        criteria=criteria,
        lowering=sum(one.lowers and not one.within_noise for one in effects),
        tiles=_tiles(run),
        facts=_facts(run),
        config_text=dump_config(run.config),
        events=events,
        left_out=left_out,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        **(training_values(run) if run.records else {}),
        **({} if evaluation is None else evaluation_values(evaluation, run.slices)),
    )


def verdict(run: RunRecords) -> str:
    """How the run stands and what it can do, in at most three sentences."""
    status = run.status
    if status is None:
        return "The run has no status: it may not have begun."
    sentences = [f"{STATES[status['state']]} after {status['epoch']} of {counted(status['planned_epochs'], 'epoch')}."]
    if "reason" in status:
        sentences.append(f"{status['reason']}.")
    best = status["best"]
    if best is not None and best["value"] is not None:
        metric = words(best["metric"])
        sentences.append(f"Best validation {metric} {best['value']:.3f} in epoch {best['epoch'] + 1}.")
    if run.evaluation is None:
        sentences.append("It has not been evaluated on whole held-out volumes yet.")
    else:
        mean, count = run.evaluation.mean, len(run.evaluation.cases)
        sentences.append(
            f"On {counted(count, 'held-out volume')}: leaderboard score {mean['leaderboard']:.3f}, "
            f"Dice {number(mean['dice'])}; surface {number(100 * mean['predicted_share'], '.1f')} % predicted, "
            f"{number(100 * mean['true_share'], '.1f')} % true."
        )
    return " ".join(sentences)


def _tiles(run: RunRecords) -> list[tuple[str, str]]:
    """The numbers that everyone asks for first."""
    tiles: list[tuple[str, str]] = []
    if run.evaluation is not None:
        mean = run.evaluation.mean
        for name, metric in (("leaderboard", "leaderboard"), ("topo", "topo"), ("surface Dice", "surface_dice")):
            tiles.append((name, f"{mean[metric]:.3f}"))
        tiles += [("VOI score", f"{mean['voi']:.3f}"), ("Dice", number(mean["dice"]))]
        tiles.append(("overestimation", f"{number(mean['overestimation_points'], '+.2f')} pp"))
    if run.status is not None:
        tiles.append(("epochs", f"{run.status['epoch']} / {run.status['planned_epochs']}"))
        if run.status["seconds"]:
            tiles.append(("training time", duration(run.status["seconds"])))
        left = run.status["seconds_left"]
        if left and run.status["state"] == "running":
            tiles.append(("time left", duration(left)))
    return tiles


def _facts(run: RunRecords) -> list[tuple[str, str]]:
    config = run.config
    return [
        *(("parent", line) for line in _descent(run)),
        ("objective", _objective(config)),
        ("model", _model(config)),
        ("optimiser", f"{words(config.optimiser.kind)}, learning rate {config.optimiser.learning_rate:g}, "
                      f"weight decay {config.optimiser.weight_decay:g}"),
        ("schedule", _schedule(config)),
        ("data", f"{config.data.dataset}, fold {config.data.fold} held out, {config.data.normalisation} normalisation"),
        ("patches", f"{_size(config.data.patch)}, batch {config.data.batch}, "
                    f"{config.data.sampling.patches_per_epoch} per epoch"),
        ("selection", f"best validation {words(config.training.selection_metric)}"),
        ("inference", f"tiles of {_size(config.tile)}, overlap {config.inference.overlap:g}"
                      + (", mirrored" if config.inference.mirror else "")),
        ("mask", describe(config.postprocessing)),
        ("seed", str(config.seed)),
        ("versions", ", ".join(f"{name} {version}" for name, version in run.versions.items()) or "not recorded"),
    ]  # fmt: skip


def _descent(run: RunRecords) -> tuple[str, ...]:
    """What the run changes in the configuration that it comes from."""
    found = [Descent.of_event(event) for event in run.events if event["kind"] == PARENT]
    return found[-1].lines() if found and found[-1] is not None else ()


def _objective(config: Config) -> str:
    terms = config.loss.terms.present()
    said = " + ".join(f"{term.weight:g} {words(name)}" for name, term in terms.items() if term.weight > 0)
    phases = ", ".join(f"{phase.name} from epoch {phase.start_epoch + 1}" for phase in config.loss.curriculum)
    return said + (f"; curriculum: {phases}" if phases else "")


def _model(config: Config) -> str:
    model = config.model
    if isinstance(model, UNetModel):
        return f"U-Net, {counted(model.filters, 'filter')}, depth {model.depth}"
    if isinstance(model, MonaiModel):
        return f"MONAI {model.name}"
    return f"residual-encoder U-Net, size {model.size}"


def _schedule(config: Config) -> str:
    warmup = getattr(config.schedule, "warmup_epochs", 0)
    return words(config.schedule.kind) + (f", {counted(warmup, 'epoch')} of warm-up" if warmup else "")


def _size(sides: Sequence[int]) -> str:
    return " x ".join(map(str, sides))
