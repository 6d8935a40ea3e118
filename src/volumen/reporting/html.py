"""The report: one HTML file that says what a run was, how it went and what it can do.

Style, charts and pictures are inside of the file, so that it can be mailed, archived and opened without a network, and
it asks for none. Everything in it comes from the run folder; nothing is computed but means.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path

from volumen import __version__
from volumen.config.model import MonaiModel, UNetModel
from volumen.config.schema import Config
from volumen.experiments.scoring import Evaluation
from volumen.files import write_atomically
from volumen.postprocess import describe
from volumen.reporting.distribution_section import distribution_section
from volumen.reporting.evaluation_section import evaluation_section, slices_section
from volumen.reporting.findings_section import findings_section
from volumen.reporting.records import RunRecords, read_run
from volumen.reporting.training_section import curves_section, events_section
from volumen.reporting.words import duration, words

STATES = {
    "running": "Still running when this report was made",
    "finished": "Finished",
    "early_stopping": "Stopped early, without further progress",
    "out_of_time": "Ended with its time budget",
    "stopped": "Stopped; it can be resumed",
    "failed": "Failed",
}
GOOD, WAITING = {"finished", "early_stopping", "out_of_time"}, {"running", "stopped"}


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write a run's report.

    Args:
        run: Run folder.
        out: Where to; `report.html` in the run folder by default. A report that is there is replaced.

    Returns:
        The file written.

    Raises:
        UserError: No run folder, or a damaged file in it.
    """
    page = build_report(read_run(run))
    target = out or run / "report.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, page)
    return target


def build_report(run: RunRecords) -> str:
    """The whole page."""
    style = files("volumen.reporting").joinpath("assets/report.css").read_text(encoding="utf-8")
    title = f"{run.config.name} · volumen report"
    sections = [
        ("run", "The run", _facts(run)),
        ("audit", "Audit before the run", findings_section(run.findings)),
        ("training", "Training", curves_section(run)),
        ("events", "Events", events_section(run.events, run.records)),
        ("held-out", "Held-out volumes", _evaluation(run)),
    ]
    if run.evaluation is not None:
        sections.append(("distribution", "Class distribution", distribution_section(run.evaluation, run.slices)))
        sections.append(("slices", "Slices", slices_section(run.evaluation, run.slices)))
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    body = "".join(f"<section id='{name}'><h2>{heading}</h2>{content}</section>" for name, heading, content in sections)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><style>{style}</style></head><body>'
        f"{_header(run)}<main>{body}</main>"
        f"<footer>volumen {__version__} · {made} · {escape(str(run.path))}</footer></body></html>\n"
    )


def verdict(run: RunRecords) -> str:
    """How the run stands and what it can do, in at most three sentences."""
    status = run.status
    if status is None:
        return "The run left no status: it may not have begun."
    state = str(status["state"])
    sentences = [f"{STATES.get(state, state)} after {status['epoch']} of {status['planned_epochs']} epochs."]
    if status.get("reason"):
        sentences.append(f"{status['reason']}.")
    best = status.get("best")
    if best and best.get("value") is not None:
        metric = words(str(best["metric"]))
        sentences.append(f"Best validation {metric} {best['value']:.3f} in epoch {best['epoch'] + 1}.")
    if run.evaluation is None:
        sentences.append("It has not been evaluated on whole held-out volumes yet.")
    else:
        mean, count = run.evaluation.mean, len(run.evaluation.cases)
        sentences.append(
            f"On {count} held-out volume{'s' * (count != 1)}: leaderboard score {mean['leaderboard']:.3f}, "
            f"Dice {mean['dice']:.3f}; surface {100 * mean['predicted_share']:.1f} % predicted, "
            f"{100 * mean['true_share']:.1f} % true."
        )
    return " ".join(sentences)


def _header(run: RunRecords) -> str:
    state = str(run.status["state"]) if run.status else "unknown"
    kind = "good" if state in GOOD else "waiting" if state in WAITING else "bad"
    notice = _notice(run.evaluation) if run.evaluation else ""
    return (
        f"<header><p class='kicker'>volumen · training report</p><h1>{escape(run.config.name)} "
        f"<span class='chip {kind}'>{escape(state.replace('_', ' '))}</span></h1>"
        f"<p class='verdict'>{escape(verdict(run))}</p>{notice}{_tiles(run)}</header>"
    )


def _notice(evaluation: Evaluation) -> str:
    """How much of what follows is a warning, and where it stands."""
    looks = len(evaluation.degenerate)
    steps = len(evaluation.warnings) - looks
    missed = sum(one.reached is False for one in evaluation.verdicts)
    said = [
        f"{looks} warning{'s' * (looks != 1)} about its <a href='#held-out'>predictions</a>." if looks else "",
        f"{missed} <a href='#distribution'>verdict{'s' * (missed != 1)}</a>: missed." if missed else "",
        f"{steps} step{'s' * (steps != 1)} of the <a href='#distribution'>post-processing</a> "
        f"lower{'s' * (steps == 1)} the score." if steps else "",
    ]  # fmt: skip
    text = " ".join(one for one in said if one)
    return f"<p class='bad'>{text}</p>" if text else ""


def _tiles(run: RunRecords) -> str:
    """The numbers that everyone asks for first."""
    tiles: list[tuple[str, str]] = []
    if run.evaluation is not None:
        mean = run.evaluation.mean
        for name, metric in (("leaderboard", "leaderboard"), ("topo", "topo"), ("surface Dice", "surface_dice")):
            tiles.append((name, f"{mean[metric]:.3f}"))
        tiles += [("VOI score", f"{mean['voi']:.3f}"), ("Dice", f"{mean['dice']:.3f}")]
        tiles.append(("overestimation", f"{mean['overestimation_points']:+.2f} pp"))
    if run.status is not None:
        tiles.append(("epochs", f"{run.status['epoch']} / {run.status['planned_epochs']}"))
        if run.status.get("seconds"):
            tiles.append(("training time", duration(run.status["seconds"])))
        if run.status.get("seconds_left") and run.status["state"] == "running":
            tiles.append(("time left", duration(run.status["seconds_left"])))
    cells = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in tiles)
    return f"<dl class='tiles'>{cells}</dl>" if tiles else ""


def _facts(run: RunRecords) -> str:
    config = run.config
    rows = [
        ("objective", _objective(config)),
        ("model", _model(config)),
        ("optimiser", f"{words(config.optimiser.kind)}, rate {config.optimiser.learning_rate:g}, "
                      f"weight decay {config.optimiser.weight_decay:g}"),
        ("schedule", _schedule(config)),
        ("data", f"{config.data.dataset}, fold {config.data.fold} held out, {config.data.normalisation} normalisation"),
        ("patches", f"{_size(config.data.patch)}, batch {config.data.batch}, "
                    f"{config.data.sampling.patches_per_epoch} an epoch"),
        ("selection", f"best validation {words(config.training.selection_metric)}"),
        ("inference", f"tiles of {_size(config.tile)}, overlap {config.inference.overlap:g}"
                      + (", mirrored" if config.inference.mirror else "")),
        ("mask", describe(config.postprocessing)),
        ("seed", str(config.seed)),
        ("versions", ", ".join(f"{name} {version}" for name, version in run.versions.items()) or "not recorded"),
    ]  # fmt: skip
    cells = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    whole = f"<details><summary>config.yaml, whole</summary><pre>{escape(run.config_text)}</pre></details>"
    return f"<dl class='facts'>{cells}</dl>{whole}"


def _objective(config: Config) -> str:
    terms = config.loss.terms.present()
    said = " + ".join(f"{term.weight:g} {words(name)}" for name, term in terms.items() if term.weight > 0)
    phases = ", ".join(f"{phase.name} from epoch {phase.start_epoch + 1}" for phase in config.loss.curriculum)
    return said + (f"; curriculum: {phases}" if phases else "")


def _model(config: Config) -> str:
    model = config.model
    if isinstance(model, UNetModel):
        return f"U-Net, {model.filters} filters, depth {model.depth}"
    if isinstance(model, MonaiModel):
        return f"MONAI {model.name}"
    return f"residual-encoder U-Net, size {model.size}"


def _schedule(config: Config) -> str:
    warmup = getattr(config.schedule, "warmup_epochs", 0)
    return words(config.schedule.kind) + (f", {warmup} epochs of warm-up" if warmup else "")


def _size(sides: Sequence[int]) -> str:
    return " x ".join(map(str, sides))


def _evaluation(run: RunRecords) -> str:
    if run.evaluation is None:
        return f"<p>Not evaluated yet: run <code>volumen evaluate {escape(str(run.path))}</code>.</p>"
    return evaluation_section(run.evaluation)
