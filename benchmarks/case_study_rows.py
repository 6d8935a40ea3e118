"""The mistakes of one training that took five weeks, each made alone in an otherwise healthy set-up.

A competitor's plan and code are the source: what really happened in his runs, row by row. Each row here makes the same
mistake with the means of this package, and names the code of the check that has to say so first.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from volumen.config.load import load_config
from volumen.config.loss import ClassWeights, Loss
from volumen.data.dataset import PreparedDataset
from volumen.data.folds import make_folds, save_folds
from volumen.data.prepare import prepare
from volumen.doctor.audit import Context, Parts, open_context
from volumen.doctor.findings import Severity
from volumen.inference.tiles import Tiles, Triple, plan_tiles
from volumen.losses import TERMS, CompositeLoss
from volumen.training.objective import build_objective
from volumen.training.state import TrainingState, fresh_state

CROP = "training.validation={{kind: crops, per_volume: 1, crop: {0}, fresh: true}}"


@dataclass(frozen=True)
class HealthyRun:
    """A healthy set-up and a place to spoil it."""

    raw: Path
    """A data set in the competition's layout whose labels hold 0, 1 and 2."""
    folder: Path
    """Where prepared data sets, folds and configurations go."""
    base: tuple[str, ...] = ()
    """Overrides of `preset:default` that every run here has."""
    crop: int = 64
    """Side of a validation crop in voxels."""

    def context(self, *overrides: str, source: str = "preset:default", meanings: str | None = None) -> Context:
        """A run on the data set, prepared with the right label meanings or with others."""
        return open_context(load_config(source, [f"data.dataset={self.prepared(meanings)}", *self.base, *overrides]))

    def prepared(self, meanings: str | None = None) -> Path:
        """The prepared data set."""
        out = self.folder / ("prepared" if meanings is None else "prepared-wrongly")
        if not (out / "manifest.json").is_file():
            file = self.folder / "meanings.yaml"
            file.write_text(f"labels: {meanings or '{0: background, 1: surface, 2: ignore}'}\n")
            prepare(self.raw, out, meanings_file=file)
        return out

    @property
    def fresh_crops(self) -> str:
        """Validation on one random crop of each volume, another one every time."""
        return CROP.format([self.crop] * 3)


@dataclass(frozen=True)
class Row:
    """One mistake."""

    number: int
    """As in the case study."""
    mistake: str
    code: str
    """Of the check that names it."""
    make: Callable[[HealthyRun], Context]
    severity: Severity = Severity.stop
    overrides: tuple[str, ...] = field(default=())
    """Of the healthy run beside it."""
    full: bool = False
    """Whether it takes the full audit."""


def _with(context: Context, **parts: Any) -> Context:
    return replace(context, parts=Parts(**parts))


def _sigmoid_head(*arguments: Any, **settings: Any) -> TrainingState:
    state = fresh_state(*arguments, **settings)
    state.model.register_forward_hook(lambda module, images, logits: torch.sigmoid(logits))
    return state


class _Forgetful(TrainingState):
    """A state whose checkpoints leave the optimiser out."""

    def restore(self, state: dict[str, Any], origin: str) -> None:
        fresh = {**state["optimiser"], "state": {}}
        super().restore({**state, "optimiser": fresh}, origin)


def _forgetful(*arguments: Any, **settings: Any) -> TrainingState:
    return _Forgetful(**vars(fresh_state(*arguments, **settings)))


def _hidden_terms(loss: Loss, epoch: int) -> CompositeLoss:
    """The configured terms, but for a variance and an entropy term that no file mentions."""
    terms = build_objective(loss, epoch).terms
    return CompositeLoss({**terms, "variance": (0.25, TERMS["variance"]()), "entropy": (0.05, TERMS["entropy"]())})


def _deaf_to_class_weights(loss: Loss, epoch: int) -> CompositeLoss:
    return build_objective(loss.model_copy(update={"class_weights": ClassWeights()}), epoch)


def _short_of_the_end(shape: Triple, tile: Triple, overlap: float) -> Tiles:
    """Whole steps only: what lies behind the last one is missed."""
    tiles = plan_tiles(shape, tile, overlap)
    z, y, x = (starts[:-1] or starts for starts in tiles.starts)
    return replace(tiles, starts=(z, y, x))


def _folds_by_volume(bench: HealthyRun) -> Context:
    file = bench.folder / "folds-by-volume.json"
    save_folds(make_folds(PreparedDataset.open(bench.prepared()), 3, "volume")[0], file)
    return bench.context(f"data.folds={file}")


def _other_objective(bench: HealthyRun) -> Context:
    file = bench.folder / "child.yaml"
    file.write_text(
        "base: preset:default\nname: child\nloss: {terms: {soft_dice: {weight: 0.2}}}\n"
        "experiment: {criteria: [{quantity: validation_loss, at_most: 0.2}]}\n"
    )
    return bench.context(source=str(file))


WEIGHTS = ("loss.class_weights={enabled: true, background: 1.0, surface: 1.1}",)
MISERLY = ("loss.terms.cldice={weight: 1e-7, iterations: 50}",)

ROWS: tuple[Row, ...] = (
    Row(
        1,
        "Unlabelled voxels were taken for surface: 60.9 % foreground",
        "P1",
        lambda bench: bench.context(meanings="{0: background, 1: surface, 2: surface}"),
    ),
    Row(
        2,
        "The network ended in a sigmoid, and inference applied a second one",
        "P8",
        lambda bench: _with(bench.context(), state=_sigmoid_head),
    ),
    Row(
        3,
        "A hidden 0.25 variance + 0.05 entropy ran under every configuration",
        "P6",
        lambda bench: _with(bench.context(), objective=_hidden_terms),
    ),
    Row(
        4,
        "Class weights and other settings were never read",
        "P6",
        lambda bench: _with(bench.context(*WEIGHTS), objective=_deaf_to_class_weights),
        overrides=WEIGHTS,
    ),
    Row(
        5,
        "A variance loss below 0.1 was waited for, and a total of 0.35",
        "P5",
        lambda bench: bench.context(
            "loss.terms.variance.weight=0.02",
            "experiment.criteria=[{quantity: loss.variance, at_most: 0.1}]",
        ),
    ),
    Row(
        6,
        "The plateau at 0.63 was the constant predictor",
        "P4",
        lambda bench: bench.context("experiment.criteria=[{quantity: loss.soft_dice, at_most: 0.9}]"),
        overrides=("experiment.criteria=[{quantity: loss.soft_dice, at_most: 0.3}]",),
    ),
    Row(
        7,
        "The foreground weight was raised against false foreground",
        "P3",
        lambda bench: bench.context(
            "loss.class_weights={enabled: true, background: 1.0, surface: 3.0}", "experiment.intent=less_surface"
        ),
        overrides=(
            "loss.class_weights={enabled: true, background: 1.3, surface: 1.0}",
            "experiment.intent=less_surface",
        ),
    ),
    Row(
        8,
        "Validation was one random crop a volume; an improvement of 0.002 counted",
        "P9",
        lambda bench: bench.context(bench.fresh_crops, "training.early_stopping={patience: 20, minimum_delta: 0.002}"),
        overrides=("training.early_stopping={patience: 20, minimum_delta: 0.002}",),
    ),
    Row(
        9,
        "Runs with different loss weights were ranked by their totals",
        "P9",
        _other_objective,
        severity=Severity.warn,
    ),
    Row(
        10,
        "Crops were asked for that the volumes do not hold",
        "P7",
        lambda bench: bench.context("data.sampling.minimum_valid_share=0.999"),
        severity=Severity.warn,
    ),
    Row(11, "Folds were random over volumes, not by scroll", "P7", _folds_by_volume, severity=Severity.warn),
    Row(
        12,
        "The sliding window missed the tail of the volume",
        "P8",
        lambda bench: _with(bench.context(), tiles=_short_of_the_end),
    ),
    Row(
        16,
        "Any three noisy epochs counted as degradation",
        "P9",
        lambda bench: bench.context(bench.fresh_crops, "training.intervention={}"),
        overrides=("training.intervention={}",),
    ),
    Row(
        17,
        "Patience 50 in 50 epochs; noise and averaging after the end",
        "P6",
        lambda bench: bench.context(
            "training.epochs=50",
            "training.early_stopping={patience: 50}",
            "training.weight_noise={start_epoch: 50}",
        ),
        severity=Severity.warn,
        overrides=("training.epochs=50", "training.early_stopping={patience: 10}"),
    ),
    Row(
        19,
        "A term that counts for nothing took most of the step",
        "P11",
        lambda bench: bench.context(*MISERLY),
        severity=Severity.warn,
    ),
    Row(
        20,
        "A resumed run had lost the state of its optimiser",
        "P8",
        lambda bench: _with(bench.context(), state=_forgetful),
    ),
    Row(
        21,
        "Nobody tried to overfit one volume in five weeks",
        "P8",
        lambda bench: bench.context("optimiser.learning_rate=1e-5"),
        full=True,
    ),
)
