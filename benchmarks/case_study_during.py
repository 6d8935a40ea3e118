"""The mistakes of the case study that happened during and after training, each made in a real short one.

Every row trains twice: once with the mistake and once without it, on small invented volumes.
"""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from volumen.config.compare import descent_of
from volumen.config.intervention import DropTerm, Intervention, RateScale
from volumen.config.load import LoadedConfig, load_config
from volumen.config.schema import Config
from volumen.data.dataset import PreparedDataset
from volumen.data.folds import FILE, make_folds, save_folds
from volumen.data.prepare import prepare
from volumen.experiments.evaluate import evaluate_cases
from volumen.inference.recipe import Recipe
from volumen.logs.read import read_log_of
from volumen.monitors.diagnosis import diagnose
from volumen.monitors.loss_clues import facts_of, scaled
from volumen.monitors.picture import Picture
from volumen.monitors.watching import replay
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.reporting.report import follow_run
from volumen.reporting.terminal import SilentDisplay
from volumen.runs.folder import open_run
from volumen.runs.records import read_run_logs
from volumen.runs.requests import ask
from volumen.runs.run import Run
from volumen.training.interventions import intervene
from volumen.training.loop import run_training
from volumen.training.state import TrainingState
from volumen.training.tournament import copied

LOGS = Path(__file__).resolve().parents[1] / "examples" / "plan-logs"
SMALL = (
    "data.patch=[16, 16, 16]", "data.batch=2", "data.sampling.patches_per_epoch=6", "data.workers=0",
    "model={filters: 2, depth: 2}", "training.epochs=3", "training.validate_every_epochs=1", "training.average=null",
    "training.early_stopping=null", "training.swa=null", "postprocessing.steps=[{kind: threshold}]",
    "inference.overlap=0", "precision=fp32", "device=cpu",
)  # fmt: skip
TRAINED = ("model", "optimiser", "rate")
"""Parts of a state by which two trainings are told apart."""
LIVE_SECONDS, LONGEST_SECONDS = 0.1, 60


@dataclass(frozen=True)
class Seen:
    """What the package says of a mistake, and of the same training without it."""

    caught: str
    """By what, and the evidence; empty where nobody noticed."""
    beside: str = ""
    """Empty where the healthy one is left in peace."""


@dataclass(frozen=True)
class Trainings:
    """A place for short trainings."""

    folder: Path

    @cached_property
    def prepared(self) -> Path:
        """Volumes of one shape, all of their voxels labelled."""
        out = self.folder / "small"
        write_phantom_dataset(self.folder / "small-raw", volumes=6, shape=(32, 32, 32), scrolls=2, seed=3)
        meanings = self.folder / "small.yaml"
        meanings.write_text("labels: {0: background, 1: surface, 2: background}\n")
        prepare(self.folder / "small-raw", out, meanings_file=meanings)
        save_folds(make_folds(PreparedDataset.open(out), 2, "scroll")[0], out / FILE)
        return out

    def config(self, *overrides: str, source: str = "preset:default") -> LoadedConfig[Config]:
        """A small run."""
        return load_config(source, [f"data.dataset={self.prepared}", *SMALL, *overrides])

    def train(self, name: str, *overrides: str, listener: SilentDisplay | None = None) -> Path:
        """Train it, and return its folder."""
        run = self.folder / name
        run_training(self.config(*overrides).config, run, listener or SilentDisplay())
        return run


@dataclass(frozen=True)
class LateRow:
    """A mistake of a training that goes on or has ended."""

    number: int
    """As in the case study."""
    mistake: str
    look: Callable[[Trainings], Seen]


def signs(run: Path, name: str) -> list[str]:
    """What a training's own monitors said, under one name."""
    found = [event for event in read_run_logs(run).events if event["kind"] == "sign" and event.get("name") == name]
    return [f"{event['code']} {event['name']}: {event['evidence']}" for event in found]


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    """A training's events of a kind."""
    return [event for event in read_run_logs(run).events if event["kind"] == kind]


def last(run: Path) -> dict[str, Any]:
    """The state that a training ended with."""
    return open_run(run).checkpoints.load_latest(lambda text: None)


def same(left: Any, right: Any) -> bool:
    """Equal to the last bit."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return torch.equal(left, right) if isinstance(left, Tensor) else bool(left == right)


def differing(left: dict[str, Any], right: dict[str, Any]) -> list[str]:
    """Parts of two states that differ."""
    return [part for part in TRAINED if not same(left[part], right[part])]


def one_pattern(module: object, images: object, logits: Tensor) -> Tensor:
    """The same answer whatever the image is."""
    return torch.where(torch.arange(logits[0].numel()).reshape(logits.shape[1:]) % 5 == 0, 4.0, -4.0) + 0.0 * logits


class FromStart(SilentDisplay):
    """Does something to a training before it is validated for the first time."""

    def __init__(self, act: Callable[[TrainingState], object]) -> None:
        self.act, self.done = act, False

    def stepped(self, state: TrainingState, result: Any, steps_per_epoch: int) -> None:
        """Once."""
        if not self.done:
            self.act(state)
        self.done = True


class AfterEpoch(SilentDisplay):
    """Does something between the first two epochs."""

    def __init__(self, act: Callable[[TrainingState], object]) -> None:
        self.act = act

    def epoch_ended(self, state: TrainingState, record: Any, validation: Any) -> None:
        """After the first one."""
        if state.cursor.epoch == 1:
            self.act(state)


def identical_shares(bench: Trainings) -> Seen:
    """Row 13: whatever the image, one mask; agreement of volumes with each other is no agreement with the truth."""
    hook = FromStart(lambda state: state.model.register_forward_hook(one_pattern))
    wrong, right = bench.train("pattern", listener=hook), bench.train("healthy")
    said = signs(wrong, "identical_cases")
    degenerate = [evaluated(run, hooked) for run, hooked in ((wrong, True), (right, False))]
    caught = "; ".join([*said, *degenerate[0]]) if said and degenerate[0] else ""
    return Seen(caught, "; ".join([*signs(right, "identical_cases"), *degenerate[1]]))


def evaluated(run: Path, hooked: bool) -> list[str]:
    """What the evaluation of a run says of equal shares, beside the truth and surface everywhere."""
    opened = Run(run)
    trained = opened.trained("best")
    if hooked:
        trained.model.register_forward_hook(one_pattern)
    recipe = Recipe.of(trained.model, trained.config)
    found = evaluate_cases(opened, trained, recipe, trained.data.validation, {"which": "best", "fold": 0}, steps=False)
    told = [text for text in found.degenerate if "identical surface share" in text]
    share, dice = found.mean["true_share"], found.mean["dice"]
    truth = f"against the truth its Dice is {dice:.3f}, surface everywhere has {2 * share / (1 + share):.3f}"
    return [f"evaluate: {'; '.join(told)}; {truth}"] if told else []


STEADY = (
    "optimiser={kind: adamw, learning_rate: 0.2}", "schedule={kind: constant}", "training.epochs=4",
    "postprocessing.steps=[{kind: threshold, level: 0.07}]",
)  # fmt: skip
PATIENT = "training.intervention={kind: tournament, steps: 3, maximum_share: 10, minimum_sigma: 0.05}"
WRITERS = (
    "training.epochs=4",
    "schedule={kind: plateau, patience: 0, threshold: 0.5}",
    "training.weight_noise={start_epoch: 1, every_epochs: 1}",
)


def thirty_fold(bench: Trainings) -> Seen:
    """Row 14: a rate of 30 times is kept only where it beats a control; several writers of the rate are named."""
    asked = bench.folder / "asked"
    wanted = AfterEpoch(lambda state: ask(asked, RateScale(factor=30.0), now=False))
    bench.train("asked", *STEADY, PATIENT, listener=wanted)
    raised = AfterEpoch(lambda state: ask(bench.folder / "writers", RateScale(factor=30.0), now=True))
    alone, several = bench.train("alone", *STEADY, PATIENT), bench.train("writers", *WRITERS, listener=raised)
    (trial,) = events(asked, "tournament")
    metrics, named = trial["metrics"], signs(several, "rate_writers")
    undone = trial["winner"] == "control" and not differing(last(asked), last(alone))
    tried = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
    text = f"tournament: {tried}; control stays, and the run is to the last bit the one that never had it"
    return Seen("; ".join([text, *named[:1]]) if undone and named else "", "; ".join(signs(alone, "rate_writers")))


OBJECTIVE: Sequence[Intervention] = (RateScale(factor=30.0), DropTerm(name="cross_entropy"))


def changed_and_back(run: Path, restore: Callable[[TrainingState, dict[str, Any]], None]) -> AfterEpoch:
    """Another rate and objective, and a rollback to the state before them."""

    def act(state: TrainingState) -> None:
        before = copied(state)
        intervene(state, OBJECTIVE, open_run(run).checkpoints)
        restore(state, before)

    return AfterEpoch(act)


def whole(state: TrainingState, before: dict[str, Any]) -> None:
    """The rollback as it is."""
    state.roll_back(before, "the state before")


def weights_only(state: TrainingState, before: dict[str, Any]) -> None:
    """The rollback as it was."""
    state.model.load_state_dict(before["model"])


def rollbacks(bench: Trainings) -> Seen:
    """Row 15: what was changed since is taken back with the weights; a rollback that forgets it is told apart."""
    steady = (*STEADY, "training.monitoring=null")
    untouched = last(bench.train("untouched", *steady))
    folder = bench.folder
    back = bench.train("back", *steady, listener=changed_and_back(folder / "back", whole))
    half = bench.train("half", *steady, listener=changed_and_back(folder / "half", weights_only))
    lost, kept = differing(untouched, last(half)), differing(untouched, last(back))
    scale, repairs = last(half)["rate"]["scale"], last(half).get("repairs", "")
    text = (
        f"with weights only the run goes on at {scale:g} times the rate"
        f"{', without cross_entropy' if 'cross_entropy' in repairs else ''}, and ends with another "
        f"{', '.join(lost)}; `roll_back` ends with the bits of the run that was never touched"
    )
    return Seen(text if lost == list(TRAINED) and not kept else "", ", ".join(kept))


TOGETHER = "data: {batch: 8}\noptimiser: {learning_rate: 0.15}\nloss: {terms: {soft_dice: {weight: 0.4}}}\n"
ALONE = "optimiser: {learning_rate: 0.15}\n"


def together(bench: Trainings) -> Seen:
    """Row 18: batch, rate and weights together are called out and recorded, one of them alone is not."""
    found = []
    for name, text in (("together", TOGETHER), ("one", ALONE)):
        file = bench.folder / f"{name}.yaml"
        file.write_text(f"base: preset:default\nname: {name}\n{text}")
        found.append(descent_of(load_config(str(file), [f"data.dataset={bench.prepared}"])))
    several, single = found
    assert several is not None
    assert single is not None
    run = bench.folder / "descended"
    run_training(bench.config("training.epochs=1").config, run, SilentDisplay(), descent=several)
    recorded = [event["factors"] for event in events(run, "parent")]
    is_recorded = [list(factors) for factors in recorded] == [list(several.factors)]
    return Seen("; ".join(several.lines()) if is_recorded and len(several.lines()) == 2 else "",
                "; ".join(single.lines()[1:]))  # fmt: skip


def live(bench: Trainings) -> Seen:
    """Row 22: his log lines are read by what they say, and a page follows a run without a mail or a script."""
    run, pages = bench.folder / "followed", list[str]()
    follower = threading.Thread(target=follow_run, args=(run, None, LIVE_SECONDS))

    class Watches(SilentDisplay):
        def epoch_ended(self, state: TrainingState, record: Any, validation: Any) -> None:
            if state.cursor.epoch == 2:  # the status of the first epoch is written
                follower.start()
            if state.cursor.epoch >= 2:
                pages.append(newer(run / "report.html", pages))

    bench.train("followed", "training.epochs=4", listener=Watches())
    follower.join()
    ended = (run / "report.html").read_text()
    refreshed = all('http-equiv="refresh"' in page for page in pages) and 'http-equiv="refresh"' not in ended
    anew, quiet = len({*pages, ended}) == len(pages) + 1, "<script" not in "".join((*pages, ended))
    secure = all("Content-Security-Policy" in page for page in (*pages, ended))
    text = (
        f"diagnose: {named(LOGS / 'thirty-fold-rate.log')}; the live page was made anew {len(pages)} times, asks to be "
        "loaded again until the run ends, and holds no script"
    )
    return Seen(text if pages and refreshed and anew and quiet and secure else "", named(LOGS / "v1-first-epochs.log"))


def newer(page: Path, before: Sequence[str]) -> str:
    """A page as soon as it is another one; the same where that takes too long."""
    last, until = before[-1] if before else "", time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < until:
        found = page.read_text() if page.is_file() else ""
        if found != last:
            return found
        time.sleep(LIVE_SECONDS)
    return last


def named(log: Path) -> str:
    """The first cause of a log and its evidence; empty where there is none."""
    history = read_log_of(log)
    facts = facts_of(history)
    found = diagnose(Picture(replay(scaled(history, facts))[0], (), facts))
    return f"{found.causes[0].name}: {found.causes[0].speaks_for[0]}" if found.causes else ""


LATE_ROWS: tuple[LateRow, ...] = (
    LateRow(13, '46 volumes had the identical share of surface: "very consistent"', identical_shares),
    LateRow(14, "Rate interventions of 30x to 122x compounded with a plateau, noise and restarts", thirty_fold),
    LateRow(15, "Rollback restored the weights and neither objective nor schedule", rollbacks),
    LateRow(18, "Batch size, rate and weights changed together", together),
    LateRow(22, "The monitor parsed log text by file name and mailed it", live),
)


def late_rows(bench: Trainings) -> list[tuple[str, ...]]:
    """Cells of each row's line."""
    lines = []
    for row in LATE_ROWS:
        print(f"row {row.number}: {row.mistake}", file=sys.stderr, flush=True)
        seen = row.look(bench)
        beside = f"NOT SILENT: {seen.beside}" if seen.beside else "silent"
        lines.append((str(row.number), row.mistake, seen.caught or "NOT CAUGHT", beside))
    return lines
