"""One training of the benchmark: made, scored on volumes that nobody saw, and kept without its checkpoints."""

import os
import secrets
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from volumen.config.schema import Config
from volumen.data.normalise import statistics_of
from volumen.data.randomness import generator
from volumen.doctor.benchmark.controls import CONTROLS
from volumen.doctor.benchmark.drawing import Draw
from volumen.doctor.benchmark.faults import FAULTS
from volumen.doctor.benchmark.injections import Injection, Injector, injected
from volumen.doctor.benchmark.setups import SETUPS, Values, config_of
from volumen.doctor.benchmark.volumes import (
    TRAINING,
    UNSEEN,
    Look,
    Volume,
    Volumes,
    draw_volumes,
    is_prepared,
    write_prepared,
)
from volumen.doctor.context import Context
from volumen.doctor.objective.progress_scale import measure_scales
from volumen.errors import UserError
from volumen.files import atomic_path
from volumen.inference.recipe import Recipe
from volumen.metrics import mean_of_known
from volumen.runs.folder import CHECKPOINTS, Audited
from volumen.runs.run import Run
from volumen.system.records import write_record
from volumen.training.initial import Materials
from volumen.training.loop import run_training
from volumen.training.step import NonFiniteError
from volumen.training.validate import mask_metrics

RESULT, VERSION = "result.json", 1
RUNS, WORK, DATA = "runs", "work", "data"
DATA_SEED = 0
NON_FINITE, FAILED = "non_finite", "failed"


@dataclass(frozen=True)
class Result:
    """What came of a draw; beside it lie the records of its run."""

    draw: Draw
    dice: float
    """Mean over the unseen clean volumes, of the best checkpoint; 0 where there is none."""
    score: float
    """The same by `leaderboard_quick`."""
    outcome: str
    """How the training ended; `non_finite` where a loss or gradient was."""
    planned_steps: int
    onset_step: int | None
    """Of a fault; None where the run ended before it."""
    seconds: float
    version: int = VERSION


@dataclass(frozen=True)
class Job:
    """A draw with all that it is made of."""

    draw: Draw
    source: Path | None = None
    """A data set in the competition's layout, for crops."""
    values: Values = field(default_factory=dict)
    """Over all others, such as fewer epochs for a try."""

    @cached_property
    def injection(self) -> Injection:
        """What the draw changes; a healthy run changes nothing."""
        draw = self.draw
        if draw.group == "fault":
            fault = FAULTS[draw.kind]
            return fault.make(fault.strengths[draw.strength], draw.onset > 0)
        known = {control.kind: control.injection for control in CONTROLS[draw.half]}
        return known[draw.kind] if draw.group == "control" else Injection()

    @property
    def look(self) -> Look:
        """Of its volumes."""
        draw, setup = self.draw, SETUPS[self.draw.setup]
        own = {control.kind: control.look for control in CONTROLS[draw.half]}.get(draw.kind)
        look = own if draw.group == "control" and own is not None else setup.look
        return Look(**{**vars(look), "source": self.source})

    @property
    def has_own_look(self) -> bool:
        """Whether its volumes are not its set-up's."""
        return vars(self.look) != {**vars(SETUPS[self.draw.setup].look), "source": self.source}


def run_job(job: Job, out: Path) -> Result:
    """Train, score, and keep the records under `out/runs`; a draw that is there already must not be asked for."""
    draw = job.draw
    clean = clean_volumes(job, out)
    dataset = dataset_of(job, clean, out)
    values = SETUPS[draw.setup].values
    config = config_of(draw.name, dataset, draw.seed, job.look.side, values, job.injection.values, job.values)
    folder = out / WORK / f"{draw.name}-{secrets.token_hex(3)}"
    injector = Injector(job.injection, draw.onset, draw.seed)
    began = os.times()
    outcome = train_faulty(config, folder, injector)
    ended = os.times()
    dice, score = true_score(folder, job, clean[-UNSEEN:])
    onset = injector.began[0] if injector.began is not None and draw.group == "fault" else None
    planned = injector.planned or config.training.epochs * config.data.sampling.patches_per_epoch // config.data.batch
    result = Result(draw, dice, score, outcome, planned, onset, ended.user - began.user + ended.system - began.system)
    keep(folder, out / RUNS / draw.name, RESULT, asdict(result))
    return result


def train_faulty(config: Config, folder: Path, injector: Injector) -> str:
    """Train with a fault in place; how it ended, `non_finite` and `failed` among the ways.

    Raises:
        UserError: It did not come to its first step.
    """
    materials = Materials(config)
    context = Context(config, materials.dataset, materials.fold.train, materials.fold.validation)
    audited = Audited((), (), measure_scales(context))
    try:
        with injected(injector):
            return run_training(config, folder, injector, materials=materials, audited=audited).state
    except NonFiniteError:
        return NON_FINITE
    except UserError:  # a validation whose logits are not finite; before the first step it is a mistake of the bench
        if not injector.planned:
            raise
        return FAILED


def clean_volumes(job: Job, out: Path) -> Volumes:
    """The volumes of the run's look, drawn once."""
    name = job.draw.kind + "-" + job.draw.half if job.has_own_look else job.draw.setup
    path = out / DATA / f"{name}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        volumes = draw_volumes(job.look, DATA_SEED)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            images, labels = (np.stack([getattr(one, part) for one in volumes]) for part in ("image", "label"))
            np.savez_compressed(file, images=images, labels=labels)
    with np.load(path) as arrays:
        return tuple(Volume(image, label) for image, label in zip(arrays["images"], arrays["labels"], strict=True))


def dataset_of(job: Job, clean: Volumes, out: Path) -> Path:
    """The prepared data set of a run, broken where its fault breaks it; made once for all of its seeds."""
    draw, injection = job.draw, job.injection
    seen = clean[:-UNSEEN]
    name = draw.kind + "-" + draw.half if job.has_own_look else draw.setup
    count = TRAINING if injection.training_volumes is None else injection.training_volumes
    if injection.corruption is not None:
        corrupt, strength = injection.corruption
        seen = corrupt(seen, strength, generator(DATA_SEED, draw.strength, 0, f"benchmark {draw.kind}"))
    if count != TRAINING:
        seen = seen[:count] + (seen[:count] if injection.leaks else seen[TRAINING:])
    if len(seen) != len(clean) - UNSEEN or injection.corruption is not None:
        name = f"{draw.kind}-{draw.strength}-{draw.setup}"
    folder = out / DATA / name
    if not is_prepared(folder):
        made = out / DATA / f"{name}-{secrets.token_hex(3)}"
        write_prepared(made, seen, training=count)
        with suppress(OSError):  # another process was faster
            made.rename(folder)
        shutil.rmtree(made, ignore_errors=True)
    return folder / "prepared"


def true_score(folder: Path, job: Job, unseen: Volumes) -> tuple[float, float]:
    """Dice and score of the best checkpoint on clean volumes, with what the fault made a part of the network."""
    try:
        trained = Run(folder).trained("best")
    except UserError:
        return 0.0, 0.0
    if job.injection.attach is not None:
        job.injection.attach(trained.model)
    found = [score_on(trained.model, trained.config, volume) for volume in unseen]
    return mean_of_known(one[0] for one in found), mean_of_known(one[1] for one in found)


def score_on(model: torch.nn.Module, config: Config, volume: Volume) -> tuple[float, float]:
    """Dice and score of a network on a volume, as a configuration predicts it."""
    recipe = Recipe.of(model, config.model_copy(update={"inference": _plain_torch(config)}))
    image = np.asarray(recipe.normalised(volume.image, statistics_of(volume.image))[:, :, :])
    try:
        probabilities = recipe.predictor.probabilities(image)
    except UserError:  # logits that are not finite
        return 0.0, 0.0
    found = mask_metrics(recipe.mask(probabilities, None), volume.label, full=False)
    return found["dice"], found["leaderboard_quick"]


def _plain_torch(config: Config) -> object:
    return config.inference.model_copy(update={"engine": "torch"})


def keep(folder: Path, place: Path, name: str, result: dict[str, Any]) -> None:
    """Move a run's records to where they stay; the result comes last but one, the folder's name last."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    for lock in folder.glob(".*"):
        lock.unlink(missing_ok=True)
    write_record(folder / name, result)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(place, ignore_errors=True)
    folder.rename(place)
