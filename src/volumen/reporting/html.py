"""The report: one HTML file that says what a run was, how it went and what it can do.

Style, charts and pictures are inside of the file, so that it can be mailed, archived and opened without a network, and
it asks for none. Everything in it comes from the run folder; nothing is computed but means.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from volumen import __version__
from volumen.config.dump import dump_config
from volumen.config.model import MonaiModel, UNetModel
from volumen.config.schema import Config
from volumen.experiments.scoring import Evaluation
from volumen.files import write_atomically
from volumen.postprocess import describe
from volumen.reporting.distribution_section import distribution_section
from volumen.reporting.evaluation_section import evaluation_section, html_list, slices_section
from volumen.reporting.findings_section import findings_section
from volumen.reporting.markup import NOTHING, Markup, html, joined
from volumen.reporting.page import page
from volumen.reporting.records import RunRecords, read_run
from volumen.reporting.training_section import curves_section, events_section
from volumen.reporting.words import duration, number, words
from volumen.system.output import counted
from volumen.system.places import writable_file
from volumen.training.run_folder import run_config

STATES = {
    "running": "Still running when this report was made",
    "finished": "Finished",
    "early_stopping": "Stopped early, without further progress",
    "out_of_time": "Ended with its time budget",
    "stopped": "Stopped; it can be resumed",
    "failed": "Failed",
    "broken_off": "Broken off (its process is gone without a word; it can be resumed)",
}
GOOD, WAITING = {"finished", "early_stopping", "out_of_time"}, {"running", "stopped"}


def write_report(run: Path, out: Path | None = None) -> tuple[Path, tuple[str, ...]]:
    """Write a run's report.

    Args:
        run: Run folder.
        out: Where to; `report.html` in the run folder by default. A report that is there is replaced.

    Returns:
        The file written, and what is wrong with the run's records, a sentence each: the page says it too.

    Raises:
        UserError: No run folder, a damaged file in it, or no place to write to.
    """
    config = run_config(run)  # what is no run folder is not written to
    target = writable_file(out or run / "report.html", "choose another file with --out")
    records = read_run(run, config)
    write_atomically(target, build_report(records))
    return target, records.faults


def build_report(run: RunRecords) -> Markup:
    """The whole page."""
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
    body = joined(html("<section id='{}'><h2>{}</h2>{}</section>", *section) for section in sections)
    footer = html("<footer>volumen {} · {} · {}</footer>", __version__, made, str(run.path))
    return page(f"{run.config.name} · volumen report", html("{}<main>{}</main>{}", _header(run), body, footer))


def verdict(run: RunRecords) -> str:
    """How the run stands and what it can do, in at most three sentences."""
    status = run.status
    if status is None:
        return "The run left no status: it may not have begun."
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


def _header(run: RunRecords) -> Markup:
    state = run.status["state"] if run.status else "unknown"
    kind = "good" if state in GOOD else "waiting" if state in WAITING else "bad"
    return html(
        "<header><p class='kicker'>volumen · training report</p><h1>{} <span class='chip {}'>{}</span></h1>"
        "<p class='verdict'>{}</p>{}{}{}</header>",
        run.config.name,
        kind,
        state.replace("_", " "),
        verdict(run),
        html_list("bad", run.faults),
        _notice(run.evaluation) if run.evaluation else NOTHING,
        _tiles(run),
    )


def _notice(evaluation: Evaluation) -> Markup:
    """How much of what follows is a warning, and where it stands."""
    looks = len(evaluation.degenerate)
    steps = len(evaluation.warnings) - looks
    missed = sum(one.reached is False for one in evaluation.verdicts)
    said = []
    if looks:
        said.append(html("{} about its <a href='#held-out'>predictions</a>.", counted(looks, "warning")))
    if missed:
        said.append(html("<a href='#distribution'>{}</a>: missed.", counted(missed, "verdict")))
    if steps:
        lowers = "lowers" if steps == 1 else "lower"
        line = "{} of the <a href='#distribution'>post-processing</a> {} the score."
        said.append(html(line, counted(steps, "step"), lowers))
    spaced = joined(html(" {}" if number else "{}", one) for number, one in enumerate(said))
    return html("<p class='bad'>{}</p>", spaced) if said else NOTHING


def _tiles(run: RunRecords) -> Markup:
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
    cells = joined(html("<div><dt>{}</dt><dd>{}</dd></div>", name, value) for name, value in tiles)
    return html("<dl class='tiles'>{}</dl>", cells) if tiles else NOTHING


def _facts(run: RunRecords) -> Markup:
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
    cells = joined(html("<dt>{}</dt><dd>{}</dd>", name, value) for name, value in rows)
    whole = html("<details><summary>config.yaml, whole</summary><pre>{}</pre></details>", dump_config(config))
    return html("<dl class='facts'>{}</dl>{}", cells, whole)


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


def _evaluation(run: RunRecords) -> Markup:
    if run.evaluation is None:
        return html("<p>Not evaluated yet: run <code>volumen evaluate {}</code>.</p>", str(run.path))
    return evaluation_section(run.evaluation)
